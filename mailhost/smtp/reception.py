"""
Taking one message: content into the spool, then accept or refuse it at the end of data.

A `Reception` owns a spool writer from its beginning. Content is written as it comes; the header is
kept back until it is whole, so that it can be checked, and completed for mail of our own users.
What is wrong with a message is said once, after its end; octets that come after that was known are
dropped. The prefix given to the spool is trace fields: Received, and for submitted mail the fields
that were missing. Return-Path and Delivered-To belong to the copy and are written at delivery.

250 is said only after the commit (RFC 5321 4.2.5, 6.1). SpoolFull is 452 4.3.1, any other failure
of the spool 451 4.3.0.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.address import Address
from mailhost.errors import SpoolFault, SpoolFull, SyntaxFault
from mailhost.ids import new_id
from mailhost.interfaces.login import ISubmission
from mailhost.interfaces.spool import Body, Envelope, ISpoolWriter, Recipient
from mailhost.message.trace import received
from mailhost.reply import Reply
from mailhost.smtp import replies
from mailhost.smtp.header_block import (
    FromFault,
    HeaderCollector,
    complete,
    has_too_many_hops,
    message_id,
)
from mailhost.smtp.settings import SMTPServerParts, SMTPServerSettings
from mailhost.units import QueueID
from mailhost.wire.line_ends import Flaws
from mailhost.wire.smtp_grammar import MailArguments

_BODIES = {"7BIT": Body.SEVEN_BIT, "8BITMIME": Body.EIGHT_BIT}


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Where a message comes from, as Received and the log tell it.

    Args:
        helo: what the client calls itself.
        protocol: as ``ESMTPSA`` (RFC 3848, RFC 6531 4.3).
        submission: who logged in, or None.
    """

    session: str
    helo: str
    peer: str
    protocol: str
    tls: str
    submission: ISubmission | None


class Reception:
    """
    One message on its way in.

    Args:
        mail: what MAIL said.
        recipients: those that RCPT had accepted; not empty.
    """

    log = Logger()

    __slots__ = (
        "_added",
        "_authors",
        "_committing",
        "_header",
        "_mail",
        "_message_id",
        "_now",
        "_origin",
        "_parts",
        "_recipients",
        "_refusal",
        "_settings",
        "_started",
        "_writer",
        "queue_id",
        "size",
    )

    def __init__(
        self,
        settings: SMTPServerSettings,
        parts: SMTPServerParts,
        origin: Origin,
        mail: MailArguments,
        recipients: tuple[Recipient, ...],
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._origin = origin
        self._mail = mail
        self._recipients = recipients
        self._started = parts.clock.seconds()
        self._now = self._started if parts.wall is None else parts.wall()
        self.queue_id = QueueID(new_id(self._started, parts.random_bytes))
        self.size = 0
        self._writer: ISpoolWriter = parts.spool.begin(self.queue_id)
        self._header: HeaderCollector | None = HeaderCollector(settings.max_header)
        self._refusal: Reply | None = None
        self._added = b""
        self._authors: tuple[Address, ...] = ()
        self._message_id = ""
        self._committing = False

    @property
    def overrun(self) -> bool:
        """Whether the peer went on so long after its message was too big that it is cut off."""
        return self.size > 2 * self._settings.max_size + (1 << 20)

    @property
    def refusal(self) -> Reply | None:
        """What will be said at the end, if that is known already."""
        return self._refusal

    def write(self, chunk: bytes) -> Deferred[None] | None:
        """Take content. A Deferred asks for patience: write no more until it fires."""
        self.size += len(chunk)
        if self._refusal is not None:
            return None
        if self.size > self._settings.max_size:
            self._refuse(too_big(self._settings))
            return None
        if self._header is None:
            return self._store(chunk)
        try:
            whole = self._header.feed(chunk)
        except SyntaxFault:
            self._refuse(
                Reply.of(552, "5.3.4", f"Header has more than {self._settings.max_header} octets")
            )
            return None
        if whole is None:
            return None
        header, rest = self._checked_header(*whole)
        return self._store(header + rest) if self._refusal is None else None

    def finish(self, flaws: Flaws) -> Reply | Deferred[Reply]:
        """
        Answer the end of data, once.

        Args:
            flaws: of the octets; line ends of submitted mail were mended.
        """
        if self._header is not None and self._refusal is None:
            header, _ = self._checked_header(*self._header.finish())
            if self._refusal is None and header:
                late = self._store(header)
                if late is not None:
                    late.addCallback(lambda _: self._decide(flaws))
                    return late  # type: ignore[return-value]
        return self._decide(flaws)

    def abort(self) -> None:
        """The transaction is given up: forget the content, unless it is being committed."""
        if not self._committing:
            self._writer.abort()

    def _decide(self, flaws: Flaws) -> Reply | Deferred[Reply]:
        if self._refusal is None and flaws is not Flaws.NONE:
            if Flaws.NUL in flaws:
                self._refuse(replies.HAS_NUL)
            elif self._origin.submission is None:
                self._refuse(replies.BARE_LINE_ENDS)
        if self._refusal is not None:
            return self._refused(self._refusal)
        if self._origin.submission is not None:
            return self._check_authors(self._origin.submission, 0)
        return self._commit()

    def _checked_header(self, header: bytes, rest: bytes) -> tuple[bytes, bytes]:
        """Look at the whole header, return it as it is to be stored, and what follows it."""
        self._header = None
        settings = self._settings
        if header.count(b"\n") > settings.max_header_lines:
            self._refuse(
                Reply.of(554, "5.6.0", f"Header has more than {settings.max_header_lines} lines")
            )
        elif has_too_many_hops(header, settings.max_hops):
            self._refuse(replies.TOO_MANY_HOPS)
        elif self._origin.submission is not None:
            return self._completed(header, self._origin.submission), rest
        else:
            self._message_id = message_id(header)
        return header, rest

    def _completed(self, header: bytes, submission: ISubmission) -> bytes:
        # RFC 5322 3.6.4: unique, and the queue id is.
        own_id = f"{self.queue_id}@{self._settings.hostname}"
        try:
            submitted = complete(
                header, sender=self._mail.reverse_path or submission.address,
                now=self._now, message_id=own_id,
            )  # fmt: skip
        except FromFault as fault:
            self._refuse(
                replies.TOO_MANY_FROM if fault.expected == "one From field" else replies.BAD_FROM
            )
            return header
        self._added = submitted.added
        self._authors = submitted.authors
        self._message_id = message_id(header) or f"<{own_id}>"
        return submitted.header

    def _check_authors(self, submission: ISubmission, start: int) -> Reply | Deferred[Reply]:
        for index in range(start, len(self._authors)):
            author = self._authors[index]
            allowed = submission.may_send_as(author)
            if isinstance(allowed, Deferred):
                allowed.addCallback(self._author_decided, submission, index)
                return allowed  # type: ignore[return-value]
            if not allowed:
                return self._refused(not_owned(author))
        return self._commit()

    def _author_decided(
        self, allowed: bool, submission: ISubmission, index: int
    ) -> Reply | Deferred[Reply]:
        if not allowed:
            return self._refused(not_owned(self._authors[index]))
        return self._check_authors(submission, index + 1)

    def _commit(self) -> Deferred[Reply]:
        mail, origin = self._mail, self._origin
        recipients = self._recipients
        submission = origin.submission
        envelope = Envelope(
            self.queue_id,
            mail.reverse_path,
            recipients,
            self._started,
            _BODIES[mail.body],
            mail.smtputf8,
            None if submission is None else submission.account_id,
            self._message_id,
            mail.ret,
            mail.envid,
        )
        prefix = received(
            helo=origin.helo,
            peer=origin.peer,
            host=self._settings.hostname,
            protocol=origin.protocol,
            queue_id=self.queue_id,
            now=self._now,
            tls=origin.tls,
            # RFC 5321 7.2: more than one would show blind copies.
            forward_path=recipients[0].forward_path if len(recipients) == 1 else None,
        )
        self._committing = True
        answer: Deferred[Reply] = self._writer.commit(envelope, prefix + self._added)  # type: ignore[assignment]
        answer.addCallbacks(self._accepted, self._not_kept)
        return answer

    def _accepted(self, _: object) -> Reply:
        reply = Reply(250, "2.0.0", (f"Queued as {self.queue_id}",))
        self._tell("smtp.transaction.accepted", reply)
        return reply

    def _not_kept(self, failure: Failure) -> Reply:
        reply = self._spool_reply(failure)
        self._tell("smtp.transaction.deferred", reply)
        return reply

    def _store(self, octets: bytes) -> Deferred[None] | None:
        late = self._writer.write(octets)
        return None if late is None else late.addErrback(self._not_written)

    def _not_written(self, failure: Failure) -> None:
        self._refuse(self._spool_reply(failure))

    def _spool_reply(self, failure: Failure) -> Reply:
        if failure.check(SpoolFull):
            return replies.SPOOL_FULL
        if not failure.check(SpoolFault):
            self.log.failure(
                "the spool failed",
                failure=failure,
                event="smtp.transaction.fault",
                session=self._origin.session,
                queue_id=self.queue_id,
            )
        return replies.SPOOL_FAULT

    def _refuse(self, reply: Reply) -> None:
        self._refusal = reply
        self._writer.abort()

    def _refused(self, reply: Reply) -> Reply:
        self._writer.abort()
        self._tell("smtp.transaction.refused", reply)
        return reply

    def _tell(self, event: str, reply: Reply) -> None:
        origin, mail = self._origin, self._mail
        self.log.info(
            event=event,
            session=origin.session,
            queue_id=self.queue_id,
            message_id=self._message_id,
            reverse_path=str(mail.reverse_path or "<>"),
            forward_path=[str(path.forward_path) for path in self._recipients[:20]],
            recipients=len(self._recipients),
            size=self.size,
            reply=str(reply),
            delay=self._parts.clock.seconds() - self._started,
            peer=origin.peer,
            helo=origin.helo,
            protocol=origin.protocol,
            tls=origin.tls,
            account="" if origin.submission is None else str(origin.submission.account_id),
        )


def too_big(settings: SMTPServerSettings) -> Reply:
    """Return the refusal of a message above the limit (RFC 1870 6.2)."""
    return Reply.of(552, "5.3.4", f"Message too big, the limit is {settings.max_size} octets")


def not_owned(address: Address) -> Reply:
    """Return the refusal of an address that is not the account's."""
    # RFC 6531 3.7.4.1: UTF-8 in replies is for those who asked for it only.
    name = str(address) if address.is_ascii else "this address"
    return Reply.of(553, "5.7.1", f"You may not send as {name}")
