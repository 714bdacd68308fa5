"""
mailhost, a complete mail server on Twisted.

The way of a message in::

    socket -> smtp.protocol -> wire.smtp (framing) -> smtp.session (what a command means)
           -> directory (who is meant) -> smtp.reception (trace fields, verdict)
           -> queue.spool (durable) -> 250
           -> storage (Maildir, index) -> change notice -> IMAP IDLE

and out::

    submission -> login -> the same way into the spool
           -> queue.dispatch -> relay (MX, TLS) -> status of each recipient
           -> done | next attempt | delivery status notification

and to its reader::

    socket -> imap.protocol -> wire.imap (one command object) -> imap.session -> imap.commands
           -> IMailbox (index, file slices) -> octets

Three objects make a protocol: a receiver that knows the grammar and no meaning (``wire``), a
session that knows the meaning and no socket, and a Twisted protocol that moves octets between
them. A session answers with a value, or with a Deferred, and only the latter stops the stream.

Imports go downward: `address`, `reply`, `errors`, `units`, `ids`, `criteria`, `neighbourhood`;
then `wire`, `message`, `interfaces`, `files`, `channel_binding`, `sending`; then `database`,
`dns`, `directory`, `storage`, `queue`; then `smtp`, `imap`, `pop3`, `relay`; then `config`,
`observe`, `tls`, `control`, `sockets`, `welcome`, `service`; then `tap` and `admin`. The table
stands in ``tests/test_layering.py``, which enforces it. Neighbours know one another by
`interfaces`; only `service` knows them all.
"""

__version__ = "0.1.0.dev0"
