"""
One IMAP session: states, the order of commands, and what the client is told when.

Commands run one at a time in the order they came; while one waits for the store, the receiver is
held. Before the tagged response the client is shown what changed in the mailbox, as far as the
command allows it (RFC 9051 7.5.1). Output is collected and written once for each batch of input;
a command that writes much asks `drain` between portions and waits while the client does not read.

The session owns its open mailbox, its login and its watch on the account, and lets go of all of
them once: when the connection is lost, or, if a command runs then, when that has ended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, ClassVar, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.errors import NoSuchMailbox, SyntaxFault
from mailhost.imap.admission import Admission
from mailhost.imap.entry import LOGGED_IN, Answer, CommandEntry, CommandTable, State
from mailhost.imap.refusals import BUG, Gone, No, answer_for
from mailhost.imap.settings import IMAPSettings
from mailhost.imap.view import View
from mailhost.interfaces.access import IMailAccess, IMailbox, MailboxFacts
from mailhost.interfaces.login import ConnectionFacts, IAuthenticator, LoggedIn
from mailhost.units import MailboxID, ModSeq
from mailhost.wire.imap import commands as grammar
from mailhost.wire.imap import responses
from mailhost.wire.imap.cursor import Cursor
from mailhost.wire.imap.receiver import IMAPReceiver

_OUTPUT_PORTION = 65536
_STREAMED = re.compile(rb"[^ ]+ ([A-Za-z]+) ")
_ANNOUNCEMENT = re.compile(rb"~?\{[0-9]+\+?\}\Z")
_TURN = 200
"""Commands that one client may have carried out before others have their turn (P6)."""
_FOREIGN = re.compile(rb"(?:[A-Z]{3,8} [^ ]+ HTTP/[0-9.]+|PROXY (?:TCP|UNKNOWN).*)\Z")
"""First lines of other protocols: somebody's browser is made to talk to us (R-09, ALPACA)."""
_HOPELESS = 1 << 32
"""A refused literal of this size is not read past: the connection ends."""


class IMAPConnection(Protocol):
    """What a session asks of its transport."""

    @property
    def can_start_tls(self) -> bool:
        """Whether TLS may begin now."""

    def write(self, data: bytes) -> None:
        """Send octets."""

    def close(self) -> None:
        """Send what was written, then end the connection."""

    def abort(self) -> None:
        """End the connection now: what was written cannot be completed."""

    def start_tls(self) -> None:
        """Begin a TLS handshake."""

    def facts(self) -> ConnectionFacts:
        """What is known of the connection now."""

    def balance(self) -> None:
        """Look again whether more input is wanted."""

    def compute(self, work: Callable[[], Any]) -> Deferred[Any]:
        """Run a function that may take long, not on the event thread where there is another."""


class IMAPSession:
    """
    The server's side of one connection.

    Args:
        connection: the transport.
        authenticator: says who may log in.
        commands: the table.
        settings: limits.
        clock: for keepalives.
        admission: counts sessions of each account and peer.

    Attributes:
        state: of RFC 9051 3.
        access: the account's mail after login.
        mailbox, view: of the selected mailbox.
        busy: a command runs. in_literal: it is in the middle of writing a literal.
        tag: of the command that runs.
        condstore: mod-sequences are wanted in every FETCH response (RFC 7162 3.1).
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        connection: IMAPConnection,
        authenticator: IAuthenticator,
        commands: CommandTable,
        settings: IMAPSettings,
        clock: IReactorTime,
        admission: Admission,
    ) -> None:
        self.connection = connection
        self.authenticator = authenticator
        self.commands = commands
        self.settings = settings
        self.clock = clock
        self.state = State.NOT_AUTHENTICATED
        self.receiver = IMAPReceiver(
            self, settings.max_line_before_login, settings.max_literal_before_login
        )
        self.access: IMailAccess | None = None
        self.account = ""
        self.mailbox: IMailbox | None = None
        self.view: View | None = None
        self.condstore = False
        self.gone = False
        self.busy = False
        self.in_literal = False
        self.tag = b""
        self.failed_logins = 0
        self.after: Callable[[], None] | None = None
        """Called once after the next tagged response is written."""
        self.structure: tuple[tuple[str, int], Any] | None = None
        """Mailbox id and UID of the last large message whose parts were asked for, and these."""
        self._admission = admission
        self._peer = ""
        self._login: LoggedIn | None = None
        self._stop_watching: Callable[[], None] | None = None
        self._dirty = False
        self._bad_commands = 0
        self._in_turn = 0
        self._out: list[bytes] = []
        self._out_octets = 0
        self._feeding = False
        self._paused = False
        self._writable: Deferred[None] | None = None
        self._line: bytes | None = None
        self._event: Deferred[None] | None = None
        self._literal: tuple[int, bool] | None = None
        self._literal_write: Callable[[bytes], Deferred[None] | None] | None = None
        self._literal_failure: Failure | None = None
        self._tail: Deferred[bytes] | None = None
        self._flags: dict[tuple[str, ...], bytes] = {}
        self._recent_flags: dict[tuple[str, ...], bytes] = {}

    # Called by the connection.

    def greet(self) -> None:
        """Say the greeting."""
        self.write(b"* OK [CAPABILITY %b] mailhost ready\r\n" % self.capabilities())
        self.flush()

    def feed(self, data: bytes) -> None:
        """Take octets from the client."""
        self._feeding = True
        self._in_turn = 0
        try:
            self.receiver.feed(data)
        finally:
            self._feeding = False
            self.flush()

    def pause(self) -> None:
        """The client does not read: start no further command."""
        self._paused = True
        if not self.busy:
            self.receiver.hold()

    def resume(self) -> None:
        """The client reads again."""
        self._paused = False
        waiting, self._writable = self._writable, None
        if waiting is not None:
            waiting.callback(None)
        elif not self.busy and not self.gone:
            self._proceed()

    def connection_lost(self) -> None:
        """The connection is no more."""
        self.gone = True
        self.receiver.stop()
        waiting = [self._writable, self._event, self._tail]
        self._writable = self._event = self._tail = None
        for each in waiting:
            if each is not None:
                each.errback(Gone())
        if not self.busy:
            self._let_go()

    def start_tls(self) -> None:
        """Send what was written, forget what came in clear text (RFC 9051 11.1), begin TLS."""
        self._send()
        self.receiver.discard()
        self.receiver.hold()
        self.connection.start_tls()

    def tls_started(self) -> None:
        """The handshake is done: go on, with nothing remembered from before."""
        self._proceed()

    # Output.

    def write(self, data: bytes) -> None:
        """Add octets to the output."""
        self._out.append(data)
        self._out_octets += len(data)

    def flush(self) -> None:
        """Send what was written, unless more input of the same batch is being worked on."""
        if self._out and not self._feeding:
            self._send()

    def _send(self) -> None:
        out, self._out, self._out_octets = self._out, [], 0
        if out and not self.gone:
            self.connection.write(b"".join(out))

    def drain(self) -> Deferred[None] | None:
        """
        Send what was written; return what to wait for while the client does not read.

        Raises (or fails with) Gone when the connection is lost.
        """
        if self.gone:
            raise Gone()
        self._send()
        if not self._paused:
            return None
        self._writable = Deferred()
        return self._writable

    def close(self) -> None:
        """End the session after what was written."""
        self.state = State.LOGOUT
        self.receiver.stop()
        self._feeding = False
        self.flush()
        self.connection.close()

    def bye(self, text: bytes) -> None:
        """Say why, and end the session."""
        if self.in_literal:
            # The words would be taken for octets of a message.
            self.state = State.LOGOUT
            self.connection.abort()
        elif self.state is not State.LOGOUT:
            self.write(b"* BYE %b\r\n" % text)
            self.close()

    def capabilities(self) -> bytes:
        """Return what is offered in this state, with spaces between."""
        return self.commands.capabilities(self)

    def flag_octets(self, uid: int, flags: tuple[str, ...]) -> bytes:
        """Return a message's flags in parentheses, \\Recent included."""
        recent = self.view is not None and uid >= self.view.recent_from
        cache = self._recent_flags if recent else self._flags
        octets = cache.get(flags)
        if octets is None:
            shown = (*flags, "\\Recent") if recent else flags
            if len(cache) > 4096:
                cache.clear()
            octets = cache[flags] = responses.flag_list(shown)
        return octets

    # Called by the receiver.

    def command(self, data: bytes) -> None:
        """Run one command."""
        if self.state is State.NOT_AUTHENTICATED and _FOREIGN.match(data):
            self.overflow("not IMAP")
            return
        try:
            tag, name, cursor = grammar.split(data)
        except SyntaxFault as fault:
            tag = Cursor(data).tag() if fault.position else b"*"
            self._complete(tag, b"BAD Not a command")
            return
        entry = self.commands.get(name)
        if entry is None:
            self._complete(tag, b"BAD Unknown command")
        elif self.state not in entry.states:
            self._complete(tag, b"BAD Command not allowed in this state")
        else:
            self._start(tag, entry, partial(self._run, entry, cursor))

    def _run(self, entry: CommandEntry, cursor: Cursor) -> Answer | Coroutine[Any, Any, Answer]:
        return entry.run(self, entry.parse(cursor))

    def _start(
        self,
        tag: bytes,
        entry: CommandEntry,
        work: Callable[[], Answer | Coroutine[Any, Any, Answer]],
    ) -> None:
        self.tag = tag
        try:
            result = work()
        except Exception as error:
            result = self._refused(error)
        if isinstance(result, bytes) and not self._updates_due(entry):
            self._complete(tag, result)
            self._end_turn()
            return
        self.busy = True
        self.receiver.hold()
        running = Deferred.fromCoroutine(self._finish(tag, entry, result))
        running.addErrback(self._broken)

    def _end_turn(self) -> None:
        """Let others have theirs after so many commands that needed no waiting."""
        self._in_turn += 1
        if self._in_turn >= _TURN and not (self.gone or self.receiver.held):
            self._in_turn = 0
            self.receiver.hold()
            self.clock.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        if not (self.gone or self.busy or self.state is State.LOGOUT):
            self._proceed()

    async def _finish(
        self, tag: bytes, entry: CommandEntry, result: Answer | Coroutine[Any, Any, Answer]
    ) -> None:
        try:
            answer = result if isinstance(result, bytes) else await result
            if self._updates_due(entry):
                await self.show_updates(expunges=entry.expunges)
        except Exception as error:
            answer = self._refused(error)
        self.busy = False
        if self.gone:
            self._let_go()
            return
        self._complete(tag, answer)
        self._proceed()

    def _broken(self, failure: Failure) -> None:
        # Nothing in `_finish` should fail; without this the session would hang for ever.
        self.log.failure("imap session broken", failure, event="imap.session.broken")
        self.busy = False
        self._let_go()
        self.connection.abort()

    def _proceed(self) -> None:
        if self._paused:
            self.receiver.hold()
        else:
            self.receiver.release()
        self.flush()
        self.connection.balance()

    def _refused(self, error: BaseException) -> Answer:
        answer = answer_for(error)
        if answer is BUG:
            facts = self.connection.facts()
            self.log.failure(
                "imap command failed",
                Failure(error),
                event="imap.command.failed",
                session=facts.session,
                account=self.account,
            )
        return answer

    def _complete(self, tag: bytes, answer: Answer) -> None:
        if self._literal is not None:
            (_, synchronizing), self._literal = self._literal, None
            # Nobody took the literal: it is not sent, or is read past if it is under way.
            self.receiver.hold()
            (self.receiver.refuse if synchronizing else self.receiver.skip)()
            if not self.busy:
                self.receiver.release()
        self.write(b"%b %b\r\n" % (tag, answer))
        if self._out_octets >= _OUTPUT_PORTION:
            # Many answers to one batch of input: let the transport say when it is enough.
            self._send()
        after, self.after = self.after, None
        if after is not None:
            after()
        if answer.startswith(b"BAD"):
            self._bad_commands += 1
            if self._bad_commands >= self.settings.max_bad_commands:
                self.bye(b"Too many bad commands")

    def literal(self, head: bytearray, size: int, synchronizing: bool) -> None:
        """Decide about a literal of a command."""
        self._literal = size, synchronizing
        if self._tail is not None:
            # A second message in one APPEND is not offered (RFC 3502).
            tail, self._tail, self._literal = self._tail, None, None
            self.receiver.hold()
            (self.receiver.refuse if synchronizing else self.receiver.skip)()
            tail.errback(SyntaxFault(0, "the end of the command"))
            return
        match = _STREAMED.match(head) if self.state in LOGGED_IN else None
        entry = self.commands.get(bytes(match[1]).upper()) if match else None
        if entry is not None and entry.stream is not None and self._start_stream(entry, head, size):
            return
        if size <= self.receiver.room():
            self._literal = None
            if synchronizing:
                self.write(b"+ OK\r\n")
            self.receiver.collect()
            return
        try:
            tag = Cursor(bytes(head)).tag()
        except SyntaxFault:
            tag = b"*"
        if not synchronizing and (self.state not in LOGGED_IN or size >= _HOPELESS):
            self._literal = None
            self.write(b"%b BAD [TOOBIG] Literal too large\r\n" % tag)
            self.bye(b"Literal too large")
            return
        self._complete(tag, b"BAD [TOOBIG] Literal too large")

    def _start_stream(self, entry: CommandEntry, head: bytearray, size: int) -> bool:
        text = bytes(head)
        end = _ANNOUNCEMENT.search(text)
        try:
            tag, _, cursor = grammar.split(text[: end.start()] if end else text)
        except SyntaxFault:
            return False
        work: Answer | Coroutine[Any, Any, Answer] | None
        try:
            assert entry.stream is not None
            work = entry.stream(self, cursor, size)
        except Exception as error:
            work = self._refused(error)
        if work is None:
            return False
        if size >= _HOPELESS:
            self.after = lambda: self.bye(b"Literal too large")
        started = work
        self._start(tag, entry, lambda: started)
        return True

    def receive(self, write: Callable[[bytes], Deferred[None] | None]) -> Deferred[bytes]:
        """
        Take the literal that was announced, in pieces.

        Fires with the rest of the command after it; fails with what `write` raised or failed
        with (then the rest of the literal was dropped), SyntaxFault, or Gone.
        """
        assert self._literal is not None
        (_, synchronizing), self._literal = self._literal, None
        if synchronizing:
            self.write(b"+ OK\r\n")
            self.flush()
        self._literal_write, self._literal_failure = write, None
        tail: Deferred[bytes] = Deferred()
        self._tail = tail
        if self.gone:
            self._tail = None
            tail.errback(Gone())
            return tail
        self.receiver.stream()
        self.receiver.release()
        self.connection.balance()
        return tail

    def literal_data(self, data: bytes) -> None:
        """Pass a piece of a literal on."""
        if self._literal_failure is not None or self._literal_write is None:
            return
        try:
            waiting = self._literal_write(data)
        except Exception:
            self._literal_failure = Failure()
            return
        if waiting is not None and not waiting.called:
            self.receiver.hold()
            waiting.addCallbacks(self._literal_written, self._literal_failed)
        elif waiting is not None:
            waiting.addErrback(self._literal_not_written)

    def _literal_not_written(self, failure: Failure) -> None:
        self._literal_failure = failure

    def _literal_written(self, _: object) -> None:
        self.receiver.release()
        self.connection.balance()

    def _literal_failed(self, failure: Failure) -> None:
        self._literal_failure = failure
        self._literal_written(None)

    def tail(self, data: bytes) -> None:
        """The rest of a command after its literal."""
        self.receiver.hold()
        tail, self._tail = self._tail, None
        if tail is None:
            return
        if self._literal_failure is not None:
            tail.errback(self._literal_failure)
        else:
            tail.callback(data)

    def line(self, data: bytes) -> None:
        """A line that a command waits for."""
        self._line = data
        self._wake()

    def overflow(self, problem: str) -> None:
        """The client passed a bound of the grammar."""
        facts = self.connection.facts()
        self.log.info(
            event="imap.session.overflow",
            session=facts.session,
            peer=facts.peer,
            account=self.account,
            problem=problem,
        )
        if problem != "not IMAP":
            self.write(b"* BAD [TOOBIG] Too long\r\n")
        self.bye(b"This port speaks IMAP" if problem == "not IMAP" else b"Too long")

    @property
    def can_write(self) -> bool:
        """Whether the client reads what is written."""
        return not (self._paused or self.gone)

    @property
    def output_octets(self) -> int:
        """Octets written and not yet sent."""
        return self._out_octets

    @property
    def waits_for_client(self) -> bool:
        """Whether nothing goes on before the client sends more."""
        if not self.busy:
            return True
        return self._event is not None or (self._tail is not None and not self.receiver.held)

    @property
    def changed(self) -> bool:
        """Whether something is known to have changed in the mailbox."""
        return self._dirty

    def enable_condstore(self) -> None:
        """From now on mod-sequences are wanted (RFC 7162 3.1)."""
        self.condstore = True

    # Lines and changes that a running command waits for.

    def expect_line(self) -> None:
        """Take the next line of input as an answer for the running command."""
        self._line = None
        self.flush()
        self.receiver.expect_line()

    async def next_line(self, *, changes: bool = False) -> bytes | None:
        """
        Return the line, without its end; with `changes`, None as soon as the mailbox changed.

        Raises Gone when the connection is lost.
        """
        if self._line is None and not (changes and self._dirty):
            if self.gone:
                raise Gone()
            self.flush()
            self._event = Deferred()
            await self._event
        line, self._line = self._line, None
        return line

    def _wake(self) -> None:
        event, self._event = self._event, None
        if event is not None:
            event.callback(None)

    # Login and mailbox.

    def log_in(self, login: LoggedIn) -> bool:
        """Take over a login; False (and the login ended) when there are too many sessions."""
        facts = self.connection.facts()
        if not self._admission.enter(login.account, facts.peer):
            login.logout()
            return False
        self._login = login
        self._peer = facts.peer
        self.account = login.account
        self.access = login.avatar
        self.state = State.AUTHENTICATED
        self.receiver.max_line = self.settings.max_line
        self.receiver.max_literals = self.settings.max_literal
        return True

    def mail(self) -> IMailAccess:
        """Return the account's mail; only called after login."""
        assert self.access is not None
        return self.access

    def selected(self) -> tuple[IMailbox, View]:
        """Return mailbox and view; only called in the selected state."""
        assert self.mailbox is not None and self.view is not None
        return self.mailbox, self.view

    def writable_mailbox(self) -> tuple[IMailbox, View]:
        """The same, for a command that changes messages: No when it is open read-only."""
        mailbox, view = self.selected()
        if mailbox.read_only:
            raise No(b"NO [READ-ONLY] The mailbox is open read-only")
        return mailbox, view

    async def find(self, name: str) -> MailboxFacts | None:
        """Return the mailbox of that name, or None; a name without a mailbox is None too."""
        for facts in await self.mail().mailboxes():
            if facts.name == name and facts.mailbox_id is not None:
                return facts
        return None

    async def mailbox_id(self, name: str) -> MailboxID:
        """Return the id of the mailbox of that name; NoSuchMailbox."""
        facts = await self.find(name)
        if facts is None or facts.mailbox_id is None:
            raise NoSuchMailbox(name)
        return facts.mailbox_id

    def open_mailbox(self, mailbox: IMailbox, view: View) -> None:
        """Enter the selected state with a mailbox, which the session closes."""
        self.mailbox, self.view = mailbox, view
        self.state = State.SELECTED
        if self._stop_watching is None:
            self._stop_watching = self.mail().watch(self._noticed)

    def close_mailbox(self) -> None:
        """Leave the selected state, if in it."""
        mailbox, self.mailbox, self.view = self.mailbox, None, None
        self._dirty = False
        self.structure = None
        if mailbox is not None:
            mailbox.close()
        if self.state is State.SELECTED:
            self.state = State.AUTHENTICATED
        stop, self._stop_watching = self._stop_watching, None
        if stop is not None:
            stop()

    def _noticed(self, mailbox_id: MailboxID, mod_seq: ModSeq) -> None:
        if (
            self.mailbox is not None
            and self.view is not None
            and self.mailbox.mailbox_id == mailbox_id
            and mod_seq > self.view.mod_seq
        ):
            self._dirty = True
            self._wake()

    def touched(self, mailbox_id: MailboxID) -> None:
        """Note that this session itself put messages into a mailbox."""
        if self.mailbox is not None and self.mailbox.mailbox_id == mailbox_id:
            self._dirty = True

    def _updates_due(self, entry: CommandEntry) -> bool:
        return self.state is State.SELECTED and (self._dirty or entry.polls)

    async def show_updates(self, *, expunges: bool) -> None:
        """Ask what changed and tell the client, of expunged messages only where allowed."""
        mailbox, view = self.selected()
        self._dirty = False
        try:
            changes = await mailbox.changes(view.mod_seq)
            updates = view.merge(changes)
            if updates.grown:
                # They are recent here; the next session is not told so again (RFC 3501 2.3.2).
                await mailbox.claim_recent()
        except NoSuchMailbox:
            # RFC 2180 3.3: there is nothing left that this session could be in.
            self.close_mailbox()
            self.bye(b"The mailbox was deleted")
            return
        if updates.new_keywords:
            self.write_keywords()
        if expunges:
            self.write_expunges(view.take_expunges())
        if updates.grown:
            self.write(b"* %d EXISTS\r\n* %d RECENT\r\n" % (view.exists, view.recent))
        for uid, flags, mod_seq in updates.flagged:
            self.write_flags(uid, flags, mod_seq, with_uid=self.condstore)

    def write_expunges(self, numbers: Iterable[int]) -> None:
        """Write EXPUNGE responses."""
        for number in numbers:
            self.write(b"* %d EXPUNGE\r\n" % number)

    def write_flags(
        self, uid: int, flags: tuple[str, ...], mod_seq: int, *, with_uid: bool
    ) -> None:
        """Write the flags of a message as a FETCH response."""
        _, view = self.selected()
        items = b"FLAGS " + self.flag_octets(uid, flags)
        if with_uid:
            items = b"UID %d %b" % (uid, items)
        if self.condstore:
            items += b" MODSEQ (%d)" % mod_seq
        self.write(b"* %d FETCH (%b)\r\n" % (view.number(uid), items))

    def write_keywords(self) -> None:
        """Write FLAGS and, where flags can be changed, PERMANENTFLAGS (RFC 9051 7.3.1, 7.1)."""
        mailbox, view = self.selected()
        known = SYSTEM_FLAGS + tuple(view.keywords)
        self.write(b"* FLAGS %b\r\n" % responses.flag_list(known))
        permanent = () if mailbox.read_only else (*known, "\\*")
        self.write(
            b"* OK [PERMANENTFLAGS %b] Flags that are kept\r\n" % responses.flag_list(permanent)
        )

    def _let_go(self) -> None:
        self.close_mailbox()
        self.state = State.LOGOUT
        login, self._login = self._login, None
        self.access = None
        if login is not None:
            self._admission.leave(login.account, self._peer)
            login.logout()


SYSTEM_FLAGS = ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")
