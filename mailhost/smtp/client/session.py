"""
A session with a server: greeting, EHLO, TLS, login, then one transaction after another.

The time limits are those of RFC 5321 4.5.3.2. Where the server offers PIPELINING, MAIL, all RCPT
and DATA go out in one write (RFC 2920); a 354 although no recipient was taken is answered with an
empty message (RFC 2920 3.1).

What a next hop does not offer:

- 8BITMIME: a message that was declared 8-bit is looked through. If it is 7-bit it is sent as such;
  else it fails with 5.6.3. It is not converted: that would break signatures.
- BINARYMIME (with CHUNKING, over which such a message goes): 5.6.3.
- SMTPUTF8: if addresses and header are ASCII it is sent without; else it fails with 5.6.7.
- SIZE: a message over the stated limit fails with 5.3.4 without being sent.

BDAT is used for BINARYMIME only. It saves nothing over pipelined DATA, and a server that refuses
recipients but reads the chunk as commands would be a danger to itself.
"""

from __future__ import annotations

from typing import Any

from mailhost.channel_binding import channel_bindings, describe
from mailhost.interfaces.network import TLSDemand
from mailhost.interfaces.spool import Body
from mailhost.reply import Action, DeliveryStatus
from mailhost.smtp.client.capabilities import Capabilities, parse_capabilities
from mailhost.smtp.client.connection import SMTPClientConnection
from mailhost.smtp.client.content import ContentReader, InThread
from mailhost.smtp.client.login import Credentials, log_in
from mailhost.smtp.client.status import SessionFailure, TLSFailure, from_reply
from mailhost.smtp.client.transaction import Transaction, mail_command, rcpt_command
from mailhost.wire.smtp_client import DotStuffer, ServerReply

GREETING_TIMEOUT = 300.0
COMMAND_TIMEOUT = 300.0
DATA_TIMEOUT = 120.0
BLOCK_TIMEOUT = 180.0
FINAL_TIMEOUT = 600.0


class SMTPClientSession:
    """
    One session, for one owner at a time.

    Args:
        connection: connected, nothing said yet.
        host: the server's name, for statuses and the certificate.
        hello_name: what we call ourselves in EHLO.
        in_thread: where files are read and proofs computed.
    """

    def __init__(
        self, connection: SMTPClientConnection, host: str, hello_name: str, in_thread: InThread
    ) -> None:
        self.connection = connection
        self.host = host
        self.offered = Capabilities()
        self.tls = ""
        self.uses = 0
        """Transactions that were begun."""
        self._hello_name = hello_name
        self._in_thread = in_thread
        self._exporter: bytes | None = None
        self._unfinished = False

    @property
    def usable(self) -> bool:
        """Whether another transaction can be begun."""
        return self.connection.failed is None

    # --- before the first transaction

    async def open(
        self,
        demand: TLSDemand,
        tls: Any,
        *,
        implicit_tls: bool = False,
        credentials: Credentials | None = None,
    ) -> None:
        """
        Do all that comes before the first transaction.

        `tls` is an `IOpenSSLClientConnectionCreator` with ``problem(connection)``, which returns
        what is wrong with the peer's certificate, or nothing. With `implicit_tls` TLS comes before
        the greeting (RFC 8314 3.3).

        Raises:
            TLSFailure: TLS was begun and failed. The demand was OPPORTUNISTIC, and without TLS it
                could be tried again; with VERIFIED a SessionFailure is raised instead.
            SessionFailure: the session could not be opened.
        """
        try:
            if implicit_tls:
                await self._start_tls(tls)
            await self._greeting()
            await self._hello()
            if demand is not TLSDemand.NONE and not self.tls:
                await self._secure(demand, tls)
            if credentials is not None:
                await log_in(
                    self.connection,
                    credentials,
                    self.offered.auth,
                    self._in_thread,
                    exporter=self._exporter,
                    protected=bool(self.tls),
                )
        except TLSFailure as failure:
            self.connection.abort()
            if demand is TLSDemand.OPPORTUNISTIC and not implicit_tls:
                raise
            raise SessionFailure(failure.status, failure.text) from None

    async def _greeting(self) -> None:
        [reply] = await self.connection.exchange(b"", [GREETING_TIMEOUT])
        if reply.code != 220:
            raise self._turned_away(reply)

    async def _hello(self) -> None:
        name = self._hello_name.encode("ascii")
        [reply] = await self.connection.exchange(b"EHLO " + name + b"\r\n", [COMMAND_TIMEOUT])
        if 200 <= reply.code < 300:
            self.offered = parse_capabilities(reply)
            return
        self.offered = Capabilities()
        if reply.temporary:
            raise self._turned_away(reply)
        # RFC 5321 3.2: a server of long ago.
        [reply] = await self.connection.exchange(b"HELO " + name + b"\r\n", [COMMAND_TIMEOUT])
        if not 200 <= reply.code < 300:
            raise self._turned_away(reply)

    def _turned_away(self, reply: ServerReply) -> SessionFailure:
        self.connection.quit()
        return SessionFailure("4.3.2", f"the server turned us away: {reply}", reply)

    async def _secure(self, demand: TLSDemand, tls: Any) -> None:
        verified = demand is TLSDemand.VERIFIED
        if not self.offered.starttls:
            if verified:
                self.connection.quit()
                raise SessionFailure("4.7.4", "TLS is required, and the server does not offer it")
            return
        [reply] = await self.connection.exchange(b"STARTTLS\r\n", [COMMAND_TIMEOUT])
        if reply.code != 220:
            if verified:
                self.connection.quit()
                raise SessionFailure("4.7.4", f"TLS is required, and was refused: {reply}")
            # RFC 3207 4: it may go on in clear text.
            return
        await self._start_tls(tls)
        # RFC 3207 4.2: what was said in clear text is forgotten.
        self.offered = Capabilities()
        await self._hello()

    async def _start_tls(self, tls: Any) -> None:
        handle = await self.connection.start_tls(tls)
        problem = tls.problem(handle)
        if problem:
            self.connection.abort()
            raise TLSFailure("4.7.5", f"the certificate is not trusted: {problem}")
        self.tls = describe(handle)
        self._exporter = dict(channel_bindings(handle)).get("tls-exporter")

    # --- transactions

    async def send(self, transaction: Transaction) -> None:
        """
        Send a message and set the status of each recipient.

        Raises:
            SessionFailure: the session ended. Statuses that were known by then are set.
            ContentFault: the message could not be read; if it had begun, the session ended.
        """
        self.uses += 1
        utf8 = False
        if transaction.smtputf8 or not transaction.has_ascii_addresses:
            utf8 = await self._needs_utf8(transaction)
        refusal = await self._refusal(transaction, utf8)
        if refusal is not None:
            transaction.settle(refusal)
            return
        commands = [mail_command(transaction, self.offered, utf8=utf8)]
        commands += [
            rcpt_command(transaction, number, self.offered)
            for number in range(len(transaction.recipients))
        ]
        if self.offered.pipelining and transaction.body is not Body.BINARY:
            go_on = await self._pipelined(transaction, commands)
        else:
            go_on = await self._stepwise(transaction, commands)
        if go_on:
            await self._message(transaction)

    async def _needs_utf8(self, transaction: Transaction) -> bool:
        if self.offered.smtputf8 or not transaction.has_ascii_addresses:
            return True
        # RFC 6531 3.2 asks for it when the header needs it, whatever was declared.
        return not (await transaction.content.shape()).ascii_header

    async def _refusal(self, transaction: Transaction, utf8: bool) -> DeliveryStatus | None:
        """Return why the message cannot go to this server, or None."""
        if utf8 and not self.offered.smtputf8:
            return self._failed("5.6.7", "the server does not take internationalised mail")
        if self.offered.size and transaction.content.size > self.offered.size:
            text = f"the server takes messages of up to {self.offered.size} octets"
            return self._failed("5.3.4", text)
        if transaction.body is Body.BINARY:
            if not (self.offered.binary and self.offered.chunking):
                return self._failed("5.6.3", "the server does not take binary messages")
        elif (
            transaction.body is Body.EIGHT_BIT
            and not self.offered.eight_bit
            and not (await transaction.content.shape()).ascii
        ):
            return self._failed("5.6.3", "the server does not take 8-bit messages")
        return None

    def _failed(self, status: str, text: str) -> DeliveryStatus:
        return DeliveryStatus(Action.FAILED, status, text, self.host, 0, self.tls)

    async def _pipelined(self, transaction: Transaction, commands: list[bytes]) -> bool:
        """Send the envelope and DATA in one write; say whether the message is wanted."""
        timeouts = [COMMAND_TIMEOUT] * len(commands) + [DATA_TIMEOUT]
        reset = b""
        if self._unfinished:
            reset = b"RSET\r\n"
            timeouts.insert(0, COMMAND_TIMEOUT)
        skip = len(timeouts) - len(commands) - 1
        self._unfinished = True
        try:
            replies = await self.connection.exchange(
                b"".join([reset, *commands, b"DATA\r\n"]), timeouts
            )
        except SessionFailure:
            known = self.connection.replies[skip:]
            self._take_envelope(transaction, known[: len(commands)])
            raise
        replies = replies[skip:]
        data = replies.pop()
        self._take_envelope(transaction, replies)
        if data.code != 354:
            self._refused(transaction, data)
            return False
        if not transaction.undecided:
            # RFC 2920 3.1: an empty message, for nobody.
            await self.connection.exchange(b".\r\n", [FINAL_TIMEOUT])
            return False
        return True

    async def _stepwise(self, transaction: Transaction, commands: list[bytes]) -> bool:
        """Send the envelope command by command; say whether the message is wanted."""
        if self._unfinished:
            await self.connection.exchange(b"RSET\r\n", [COMMAND_TIMEOUT])
        self._unfinished = True
        replies: list[ServerReply] = []
        try:
            for command in commands:
                replies += await self.connection.exchange(command, [COMMAND_TIMEOUT])
                if not replies[0].positive:
                    break
        finally:
            self._take_envelope(transaction, replies)
        if not transaction.undecided:
            return False
        if transaction.body is Body.BINARY:
            return True
        [data] = await self.connection.exchange(b"DATA\r\n", [DATA_TIMEOUT])
        if data.code != 354:
            self._refused(transaction, data)
            return False
        return True

    def _take_envelope(self, transaction: Transaction, replies: list[ServerReply]) -> None:
        """Set what the replies to MAIL and RCPT, as far as they have come, decide."""
        if replies and not 200 <= replies[0].code < 300:
            self._refused(transaction, replies[0])
            return
        for number, reply in enumerate(replies[1:]):
            if not 200 <= reply.code < 300:
                transaction.statuses[number] = from_reply(
                    reply, self.host, self.tls, recipient=True
                )

    def _refused(self, transaction: Transaction, reply: ServerReply) -> None:
        if not transaction.undecided:
            return
        transaction.refused = True
        if 200 <= reply.code < 400:
            # Success where none can be: whatever it means, no message was sent.
            text = f"unexpected reply: {reply}"
            self.connection.fail(SessionFailure("4.5.0", text))
            transaction.settle(
                DeliveryStatus(Action.DELAYED, "4.5.0", text, self.host, reply.code, self.tls)
            )
            return
        transaction.settle(from_reply(reply, self.host, self.tls))

    # --- the message

    async def _message(self, transaction: Transaction) -> None:
        binary = transaction.body is Body.BINARY
        start = b"BDAT %d LAST\r\n" % transaction.content.size if binary else b""
        final = self.connection.exchange(start, [BLOCK_TIMEOUT])
        reader = transaction.content.open()
        try:
            await self._stream(transaction, reader, None if binary else DotStuffer())
        except BaseException:
            final.addErrback(lambda _: None)
            self.connection.abort()
            raise
        finally:
            reader.close()
        [reply] = await final
        if not transaction.content_sent:
            # It answered before it had the message: the rest would be taken for commands.
            self.connection.abort()
        if 200 <= reply.code < 300 and transaction.content_sent:
            self._unfinished = False
            transaction.settle(from_reply(reply, self.host, self.tls))
        else:
            self._refused(transaction, reply)

    async def _stream(
        self, transaction: Transaction, reader: ContentReader, stuffer: DotStuffer | None
    ) -> None:
        connection = self.connection
        chunk = await reader.read()
        after = await reader.read() if chunk else b""
        streaming = bool(after)
        if streaming:
            connection.start_stream()
        try:
            while after:
                if connection.answered:
                    return
                connection.write(stuffer.feed(chunk) if stuffer else chunk)
                chunk, after = after, await reader.read()
                connection.set_timeout(BLOCK_TIMEOUT)
                waiting = connection.drained()
                if waiting is not None:
                    await waiting
            if connection.answered:
                return
            last = stuffer.feed(chunk) + stuffer.finish() if stuffer else chunk
            transaction.content_sent = True
            connection.write(last)
            connection.set_timeout(FINAL_TIMEOUT)
        finally:
            if streaming:
                connection.end_stream()

    def quit(self) -> None:
        """End the session politely, without waiting for it."""
        self.connection.quit()
