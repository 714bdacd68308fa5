"""
Stand-ins for the other side of each seam; `tests.contracts` holds them to the real thing.

Fakes keep what they were given in plain attributes for tests to look at. Those that take a `Later`
answer at once, or when it is settled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from mailhost.address import Address, parse_domain
from mailhost.directory.passwords import check_password
from mailhost.directory.roster import Identity, OwnNames, Roster
from mailhost.errors import DirectoryError, EntryExists, NoSuchEntry
from mailhost.interfaces.directory import (
    Account,
    AddressClass,
    Alias,
    Classification,
    Domain,
    IDirectory,
    IRecipientPolicy,
)
from mailhost.interfaces.login import (
    Challenge,
    ConnectionFacts,
    IAuthentication,
    IAuthenticator,
    ISubmission,
    LoggedIn,
    LoginFailure,
)
from mailhost.interfaces.network import Answer, AnswerStatus, IResolver, MXRecord
from mailhost.interfaces.spool import (
    Envelope,
    ISpool,
    ISpoolWriter,
    LocalTarget,
    PlacementResult,
    Recipient,
)
from mailhost.reply import Reply
from mailhost.units import AccountID, QueueID

# --- Late answers ---


class Later:
    """Makes answers late: they wait until `settle`."""

    def __init__(self, late: bool = False) -> None:
        self.late = late
        self.waiting: list[Callable[[], None]] = []

    def give(self, value: Any) -> Any:
        """Return the value, or a Deferred of it."""
        return self.deferred(value) if self.late else value

    def deferred(self, value: Any) -> Deferred[Any]:
        """Return a Deferred of the value, fired or not; an exception makes it fail."""
        if not self.late:
            return fail(value) if isinstance(value, Exception) else succeed(value)
        answer: Deferred[Any] = Deferred()

        def fire() -> None:
            if answer.called:
                return
            if isinstance(value, Exception):
                answer.errback(value)
            else:
                answer.callback(value)

        self.waiting.append(fire)
        return answer

    def settle(self) -> None:
        """Give every answer that waits, and those that come of it."""
        while self.waiting:
            self.waiting.pop(0)()


# --- Spool ---


@implementer(ISpoolWriter)
class FakeSpoolWriter:
    """One message on its way into a `FakeSpool`."""

    def __init__(self, spool: FakeSpool, queue_id: QueueID) -> None:
        self.spool = spool
        self.queue_id = queue_id
        self.chunks: list[bytes] = []
        self.size = 0
        self.aborted = False
        self.committed = False
        self.busy = False

    def write(self, data: bytes) -> Deferred[None] | None:
        """Add octets."""
        assert not (self.aborted or self.committed), "written after the end"
        assert not self.busy, "written while patience was asked for"
        assert data, "nothing written"
        self.chunks.append(data)
        self.size += len(data)
        if self.spool.write_error is not None:
            return self.spool.later.deferred(self.spool.write_error)
        if not self.spool.later.late:
            return None
        self.busy = True
        return self.spool.later.deferred(None).addCallback(self._free)

    def _free(self, _: None) -> None:
        self.busy = False

    def commit(self, envelope: Envelope, prefix: bytes) -> Deferred[None]:
        """Keep it in the spool's list."""
        assert not (self.aborted or self.committed or self.busy), "committed after the end"
        self.committed = True
        spool = self.spool
        if spool.commit_error is not None:
            return spool.later.deferred(spool.commit_error)
        return spool.later.deferred(None).addCallback(self._keep, envelope, prefix)

    def _keep(self, _: None, envelope: Envelope, prefix: bytes) -> None:
        self.spool.messages.append((envelope, prefix, b"".join(self.chunks)))

    def commit_placed(
        self, envelope: Envelope, prefix: bytes
    ) -> Deferred[tuple[PlacementResult, ...]]:
        """Keep it; nothing is placed here."""
        return self.commit(envelope, prefix).addCallback(lambda _: ())

    def abort(self) -> None:
        """Forget it."""
        if not self.committed:
            self.aborted = True


@implementer(ISpool)
class FakeSpool:
    """
    Keeps messages in a list of (envelope, prefix, content).

    Set `refusal` for a lack of room, `write_error` or `commit_error` for a failure.
    """

    def __init__(self, later: Later | None = None) -> None:
        self.later = later or Later()
        self.messages: list[tuple[Envelope, bytes, bytes]] = []
        self.writers: list[FakeSpoolWriter] = []
        self.settled: list[QueueID] = []
        self.refusal: Reply | None = None
        self.write_error: Exception | None = None
        self.commit_error: Exception | None = None

    def begin(self, queue_id: QueueID) -> FakeSpoolWriter:
        """Return a writer."""
        writer = FakeSpoolWriter(self, queue_id)
        self.writers.append(writer)
        return writer

    def settle(self, queue_ids: Sequence[QueueID]) -> Deferred[None]:
        """Note which were to be settled."""
        self.settled.extend(queue_ids)
        return self.later.deferred(None)

    def room(self) -> Reply | None:
        """Return the refusal that was set."""
        return self.refusal


# --- Recipients and logins ---


@implementer(IRecipientPolicy)
class FakeRecipientPolicy:
    """
    Takes everyone at its domains but ``nobody``, and other domains from those who logged in.

    The account of ``name@domain`` is called ``account-name``. ``bug`` makes it raise.
    """

    def __init__(self, *domains: str, later: Later | None = None) -> None:
        self.domains = domains or ("example.org",)
        self.later = later or Later()
        self.asked: list[tuple[Address, ISubmission | None]] = []

    def recipient(
        self, forward_path: Address, submission: ISubmission | None
    ) -> Recipient | Reply | Deferred[Recipient | Reply]:
        """Decide by the domain."""
        self.asked.append((forward_path, submission))
        if forward_path.local_part == "bug":
            raise RuntimeError("secret of the inside")
        answer: Recipient | Reply
        if forward_path.domain in self.domains:
            if forward_path.local_part == "nobody":
                answer = Reply.of(550, "5.1.1", "No such user here")
            else:
                target = LocalTarget(AccountID(f"account-{forward_path.local_part}"))
                answer = Recipient(forward_path, local=(target,))
        elif submission is None:
            answer = Reply.of(550, "5.7.1", "No mail for that domain here")
        else:
            answer = Recipient(forward_path, remote=(forward_path,))
        return self.later.give(answer)  # type: ignore[no-any-return]


@implementer(ISubmission)
class FakeSubmission:
    """An account that owns the addresses it was given."""

    def __init__(self, *addresses: str, later: Later | None = None) -> None:
        self.addresses = [Address.parse(address) for address in addresses]
        self.address = self.addresses[0]
        self.account_id = AccountID(f"account-{self.address.local_part}")
        self.later = later or Later()

    def may_send_as(self, address: Address) -> bool | Deferred[bool]:
        """Whether it is one of them."""
        return self.later.give(address in self.addresses)  # type: ignore[no-any-return]


@implementer(IAuthenticator)
class FakeAuthenticator:
    """
    Knows users by a dict of avatars and one password, ``secret``, for all.

    PLAIN and LOGIN are what they are. SCRAM-SHA-256 is a mock of its shape: the client's first
    message is the user, the challenge ``prove``, its answer the password, and ``signature`` is said
    with success. A user called ``disabled`` is, ``temporary`` cannot be decided, ``bug`` raises.
    """

    def __init__(self, avatars: dict[str, Any], later: Later | None = None) -> None:
        self.avatars = avatars
        self.later = later or Later()
        self.facts: list[ConnectionFacts] = []
        self.open = 0
        self.cancelled = 0

    def mechanisms(self, facts: ConnectionFacts) -> tuple[bytes, ...]:
        """Offer all when passwords are safe."""
        if facts.tls or facts.cleartext_login:
            return (b"SCRAM-SHA-256", b"PLAIN", b"LOGIN")
        return ()

    def begin(
        self, mechanism: bytes, facts: ConnectionFacts, interface: Any
    ) -> FakeAuthentication | None:
        """Start an exchange."""
        self.facts.append(facts)
        if mechanism not in self.mechanisms(facts):
            return None
        return FakeAuthentication(self, mechanism)

    def login(
        self, user: bytes, password: bytes, facts: ConnectionFacts, interface: Any
    ) -> Deferred[Any]:
        """A login by name and password."""
        self.facts.append(facts)
        return self.later.deferred(self.outcome(user, password))

    def outcome(self, user: bytes, password: bytes, final: bytes | None = None) -> Any:
        """Decide."""
        name = user.decode("utf-8", "replace")
        if name == "bug":
            raise RuntimeError("secret of the inside")
        if name == "temporary":
            return LoginFailure.TEMPORARY
        if name not in self.avatars or password != b"secret":
            return LoginFailure.CREDENTIALS
        if name == "disabled":
            return LoginFailure.DISABLED
        self.open += 1
        return LoggedIn(self.avatars[name], self.log_out, name, final)

    def log_out(self) -> None:
        """A session with an avatar ended."""
        self.open -= 1


@implementer(IAuthentication)
class FakeAuthentication:
    """One exchange of a `FakeAuthenticator`."""

    def __init__(self, authenticator: FakeAuthenticator, mechanism: bytes) -> None:
        self.authenticator = authenticator
        self.mechanism = mechanism
        self.said: list[bytes] = []

    def respond(self, data: bytes | None) -> Any:
        """Take a message."""
        return self.authenticator.later.give(self._step(data))

    def _step(self, data: bytes | None) -> Any:
        if data is None:
            return Challenge(b"Username:" if self.mechanism == b"LOGIN" else b"")
        self.said.append(data)
        if self.mechanism == b"PLAIN":
            parts = data.split(b"\0")
            if len(parts) != 3:
                return LoginFailure.MALFORMED
            if parts[0] not in (b"", parts[1]):
                return LoginFailure.CREDENTIALS
            return self.authenticator.outcome(parts[1], parts[2])
        if len(self.said) == 1:
            return Challenge(b"Password:" if self.mechanism == b"LOGIN" else b"prove")
        final = b"signature" if self.mechanism == b"SCRAM-SHA-256" else None
        return self.authenticator.outcome(self.said[0], self.said[1], final)

    def cancel(self) -> None:
        """The client gave up."""
        self.authenticator.cancelled += 1


# --- Transport ---


class FakeCertificate:
    """What `FakeTLS` has for a certificate: one without a hash."""

    signature_hash_algorithm = None

    def to_cryptography(self) -> FakeCertificate:
        """Return itself."""
        return self


class FakeTLS:
    """The pyOpenSSL connection of a `FakeTransport`."""

    def get_cipher_name(self) -> str:
        """The cipher."""
        return "TLS_AES_256_GCM_SHA384"

    def get_protocol_version_name(self) -> str:
        """The version."""
        return "TLSv1.3"

    def export_keying_material(self, label: bytes, length: int, context: bytes) -> bytes:
        """Keying material."""
        return b"k" * length

    def get_certificate(self) -> FakeCertificate:
        """Our own certificate."""
        return FakeCertificate()


class FakeTransport(StringTransport):
    """A string transport that can start TLS and be aborted."""

    def __init__(self) -> None:
        super().__init__()
        self.tls_contexts: list[Any] = []
        self.aborted = False
        self.writes = 0

    def loseConnection(self) -> None:
        """Close, which a TLS transport does only without a producer."""
        assert self.producer is None, "a TLS transport would wait for its producer"
        super().loseConnection()

    def write(self, data: bytes) -> None:
        """Count the calls."""
        self.writes += 1
        if not self.aborted:
            super().write(data)

    def startTLS(self, context: Any) -> None:
        """Note that TLS was asked for."""
        self.tls_contexts.append(context)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is delayed here."""

    def getHandle(self) -> FakeTLS:
        """Return TLS facts."""
        return FakeTLS()

    def abortConnection(self) -> None:
        """Drop the connection."""
        self.aborted = True
        self.disconnecting = True

    @property
    def closed(self) -> bool:
        """Whether the server closed or dropped the connection."""
        return self.disconnecting or self.aborted


# --- Directory --------------------------------------------------------------------------------


@implementer(IDirectory)
class FakeDirectory:
    """A directory without a database; `passwords` shows what was set, by account id."""

    def __init__(self, names: OwnNames | None = None) -> None:
        self.roster = Roster(names or OwnNames())
        self.passwords: dict[AccountID, str] = {}
        self._made = 0.0

    def classify(self, address: Address) -> Classification:
        return self.roster.classify(address)

    def is_local_domain(self, domain: str) -> bool:
        return self.roster.is_local(domain)

    def may_send_as(self, account_id: AccountID, address: Address) -> bool:
        found = self.classify(address)
        owners = [target.account_id for target in found.local]
        return found.address_class is AddressClass.LOCAL and (owners, found.remote) == (
            [account_id],
            (),
        )

    def account(self, account_id: AccountID) -> Deferred[Account]:
        return execute(lambda: self._identity(account_id).account)

    def account_by_address(self, address: Address) -> Deferred[Account]:
        def find() -> Account:
            identity = self.roster.identity_of(address)
            if identity is None:
                raise NoSuchEntry(str(address))
            return identity.account

        return execute(find)

    def accounts(self, domain: str | None = None) -> Deferred[tuple[Account, ...]]:
        return execute(lambda: self.roster.accounts(self._known(domain)))

    def add_account(
        self, address: Address, password: str, display_name: str = ""
    ) -> Deferred[Account]:
        def add() -> Account:
            self._free(address)
            check_password(password)
            account_id = AccountID(f"account{int(self._next()):019d}")
            account = Account(account_id, address, display_name, True, self._made)
            self.roster.put_account(Identity(account, 1))
            self.passwords[account_id] = password
            return account

        return execute(add)

    def set_password(self, account_id: AccountID, password: str) -> Deferred[None]:
        def replace() -> None:
            self._identity(account_id)
            self.passwords[account_id] = check_password(password)

        return execute(replace)

    def set_enabled(self, account_id: AccountID, enabled: bool) -> Deferred[None]:
        def change() -> None:
            old = self._identity(account_id)
            was = old.account
            account = Account(account_id, was.address, was.display_name, enabled, was.created_at)
            self.roster.put_account(Identity(account, old.version + 1))

        return execute(change)

    def delete_account(self, account_id: AccountID) -> Deferred[None]:
        def delete() -> None:
            self._identity(account_id)
            self.roster.remove_account(account_id)

        return execute(delete)

    def domains(self) -> Deferred[tuple[Domain, ...]]:
        return execute(self.roster.domains)

    def add_domain(self, name: str) -> Deferred[Domain]:
        def add() -> Domain:
            domain = Domain(parse_domain(name), self._next())
            if domain.name.startswith("["):
                raise DirectoryError(name)
            if domain.name in self._names():
                raise EntryExists(name)
            self.roster.put_domain(domain)
            return domain

        return execute(add)

    def delete_domain(self, name: str) -> Deferred[None]:
        def delete() -> None:
            known = self._known(name)
            if self.roster.accounts(known) or self.roster.aliases(known):
                raise DirectoryError(f"{known} is in use")
            self.roster.remove_domain(str(known))

        return execute(delete)

    def aliases(self, domain: str | None = None) -> Deferred[tuple[Alias, ...]]:
        return execute(lambda: self.roster.aliases(self._known(domain)))

    def add_alias(self, address: Address, targets: Sequence[Address]) -> Deferred[Alias]:
        def add() -> Alias:
            self._free(address)
            distinct = {target.key: target for target in targets}
            if not distinct or address.key in distinct:
                raise DirectoryError(str(address))
            alias = Alias(address, tuple(distinct.values()), self._next())
            self.roster.put_alias(alias)
            return alias

        return execute(add)

    def delete_alias(self, address: Address) -> Deferred[None]:
        def delete() -> None:
            if all(alias.address.key != address.key for alias in self.roster.aliases(None)):
                raise NoSuchEntry(str(address))
            self.roster.remove_alias(address)

        return execute(delete)

    def _names(self) -> list[str]:
        return [domain.name for domain in self.roster.domains()]

    def _next(self) -> float:
        self._made += 1
        return self._made

    def _known(self, domain: str | None) -> str | None:
        if domain is None:
            return None
        name = parse_domain(domain)
        if name not in self._names():
            raise NoSuchEntry(name)
        return name

    def _free(self, address: Address) -> None:
        if set("%!@").intersection(address.local_part):
            raise DirectoryError(str(address))
        self._known(address.domain)
        keys: list[Any] = [*self.roster.accounts(None), *self.roster.aliases(None)]
        if any(entry.address.key == address.key for entry in keys):
            raise EntryExists(str(address))

    def _identity(self, account_id: AccountID) -> Identity:
        identity = self.roster.identity(account_id)
        if identity is None:
            raise NoSuchEntry(account_id)
        return identity


# --- Names ------------------------------------------------------------------------------------


@implementer(IResolver)
class FakeResolver:
    """
    `IResolver` from dictionaries.

    Args:
        mx: domain to records, as ``(preference, host)``; ``(0, "")`` is the null MX.
        addresses, txt, names: name to records.
        failing: names that no server can answer for.
        late: look-ups fire only when `settle` is called.
    """

    def __init__(
        self,
        mx: Mapping[str, Sequence[tuple[int, str]]] | None = None,
        addresses: Mapping[str, Sequence[str]] | None = None,
        txt: Mapping[str, Sequence[bytes]] | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
        *,
        failing: Sequence[str] = (),
        secure: bool = False,
        late: bool = False,
    ) -> None:
        self.records = {
            "mx": {
                name: tuple(MXRecord(*record) for record in records)
                for name, records in (mx or {}).items()
            },
            "addresses": {name: tuple(records) for name, records in (addresses or {}).items()},
            "txt": {name: tuple(records) for name, records in (txt or {}).items()},
            "names": {name: tuple(records) for name, records in (names or {}).items()},
        }
        self.failing = set(failing)
        self.secure = secure
        self.late = late
        self.asked: list[tuple[str, str]] = []
        self._waiting: list[tuple[Deferred[Answer], Answer]] = []

    def mx(self, domain: str) -> Deferred[Answer]:
        return self._look_up("mx", domain)

    def addresses(self, host: str) -> Deferred[Answer]:
        return self._look_up("addresses", host)

    def txt(self, name: str) -> Deferred[Answer]:
        return self._look_up("txt", name)

    def names(self, address: str) -> Deferred[Answer]:
        return self._look_up("names", address)

    def settle(self) -> None:
        """Fire what was asked since, and what is asked because of it."""
        while self._waiting:
            waiter, answer = self._waiting.pop(0)
            if not waiter.called:
                waiter.callback(answer)

    def _look_up(self, kind: str, name: str) -> Deferred[Answer]:
        self.asked.append((kind, name))
        answer = self._answer(kind, name.lower().removesuffix("."))
        if not self.late:
            return succeed(answer)
        waiter: Deferred[Answer] = Deferred()
        self._waiting.append((waiter, answer))
        return waiter

    def _answer(self, kind: str, name: str) -> Answer:
        if name in self.failing:
            return Answer(AnswerStatus.FAILED, problem="no server answered")
        records = self.records[kind].get(name)
        if records:
            return Answer(AnswerStatus.FOUND, records, self.secure)
        exists = any(name in table for table in self.records.values())
        status = AnswerStatus.NO_DATA if exists else AnswerStatus.NO_NAME
        return Answer(status, (), self.secure)
