"""
Sending at once what is sent alone.

Twisted's transports put octets into a buffer and send them in the next turn of the event loop. For
a protocol of short answers that turn costs more than the answer: two calls of ``epoll_ctl`` and one
of ``epoll_wait``. `send` hands the octets to the socket directly when nothing waits before them.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection


def send(transport: Any, data: bytes) -> None:
    """
    Send octets in order, now if the transport lets it, else as ``transport.write``.

    Args:
        transport: any ITransport. Only a plain TCP or UNIX stream transport of Twisted whose
            buffers are empty takes the short way; TLS and the rest keep their own.
        data: what to send.
    """
    # The class is asked, not the attributes: a TLS transport lends those of the plain one below.
    if (
        isinstance(transport, Connection)
        and not transport.TLS
        and transport.connected
        and not (transport._tempDataBuffer or transport.dataBuffer or transport.disconnecting)
    ):
        sent = transport.writeSomeData(data)
        if sent == len(data):
            return
        # Less than all, or the exception that stands for a lost connection: the buffered way
        # meets the same condition again and reports it as Twisted does.
        if isinstance(sent, int) and sent > 0:
            data = data[sent:]
    transport.write(data)
