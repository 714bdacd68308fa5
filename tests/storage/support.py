"""Stand-ins for what surrounds the mail store: pool, spool, faulty files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailhost.address import Address
from mailhost.files import FileOperations
from mailhost.interfaces.spool import (
    Deposit,
    Envelope,
    ISpool,
    ISpoolWriter,
    LocalTarget,
    Placement,
    PlacementResult,
)
from mailhost.storage import account_database, cache_database
from mailhost.storage.data_directory import DataDirectory
from mailhost.storage.store import MailStore
from mailhost.units import AccountID, QueueID

NOW = 1_700_000_000.0
ANN = AccountID("ann")
BOB = AccountID("bob")
ADDRESS = Address.parse("ann@example.org")
SENDER = Address.parse("sender@example.com")


class Crash(BaseException):
    """The process ends here."""


class SynchronousPool:
    """Does the work at once, on the caller's thread."""

    def defer(self, function: Callable[..., Any], *args: Any, **named: Any) -> Deferred[Any]:
        """Call the function now."""
        return execute(function, *args, **named)


class FaultyFiles(FileOperations):
    """
    Real files; counts changing operations, and fails or stops at one of them.

    `before` is called with name and arguments of each operation that changes something.
    """

    CHANGING = (
        "create",
        "rewrite",
        "append_to",
        "write",
        "sync_data",
        "rename",
        "link",
        "unlink",
        "make_directory",
        "remove_directory",
        "sync_directory",
        "sync_file_system",
    )

    def __init__(self) -> None:
        self.operations: list[tuple[str, tuple[Any, ...]]] = []
        self.before: Callable[[str, tuple[Any, ...]], None] = lambda name, arguments: None

    # Syncs are pretended: no test here cuts the power, and real ones take long on a busy machine.

    def sync_file_system(self, path: str | Path) -> None:
        """Pretend."""
        self._note("sync_file_system", (path,))

    def sync_directory(self, path: str | Path) -> None:
        """Pretend, but the directory must be there."""
        self._note("sync_directory", (path,))
        os.stat(path)

    def sync_data(self, descriptor: int) -> None:
        """Pretend."""
        self._note("sync_data", (descriptor,))

    def _note(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.before(name, arguments)
        self.operations.append((name, arguments))


def _noted(name: str) -> Callable[..., Any]:
    real = getattr(FileOperations, name)

    def operation(self: FaultyFiles, *arguments: Any) -> Any:
        self._note(name, arguments)
        return real(self, *arguments)

    return operation


for _name in FaultyFiles.CHANGING:
    if not _name.startswith("sync_"):
        setattr(FaultyFiles, _name, _noted(_name))


@implementer(ISpoolWriter)
class DirectWriter:
    """Collects content, and deposits it at once on commit."""

    def __init__(self, spool: DirectSpool, queue_id: QueueID) -> None:
        self._spool, self._queue_id = spool, queue_id
        self._chunks: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> None:
        """Keep octets."""
        self._chunks.append(data)
        self.size += len(data)

    def commit(self, envelope: Envelope, prefix: bytes) -> Deferred[None]:
        """As commit_placed."""
        return self.commit_placed(envelope, prefix).addCallback(lambda _: None)

    def commit_placed(
        self, envelope: Envelope, prefix: bytes
    ) -> Deferred[tuple[PlacementResult, ...]]:
        """Deposit, and keep the row until it is settled."""
        deposit = Deposit(
            self._queue_id,
            envelope.reverse_path,
            prefix,
            b"".join(self._chunks),
            self.size,
            envelope.received_at,
            envelope.recipients[0].local,
        )
        self._spool.rows[self._queue_id] = deposit
        return succeed(self._spool.store.deposit([deposit])[0])

    def abort(self) -> None:
        """Forget."""
        self._chunks.clear()


@implementer(ISpool)
class DirectSpool:
    """A spool in memory that settles only when asked."""

    def __init__(self, store: MailStore) -> None:
        self.store = store
        self.rows: dict[QueueID, Deposit] = {}
        self.settlements: list[list[QueueID]] = []

    def begin(self, queue_id: QueueID) -> DirectWriter:
        """Return a writer."""
        return DirectWriter(self, queue_id)

    def settle(self, queue_ids: Sequence[QueueID]) -> Deferred[None]:
        """Sync, then forget these."""
        self.settlements.append(list(queue_ids))
        try:
            self.store.sync()
        except OSError:
            return fail()
        self.forget(queue_ids)
        return succeed(None)

    def forget(self, queue_ids: Sequence[QueueID]) -> None:
        """The rows are gone."""
        for queue_id in queue_ids:
            self.rows.pop(queue_id, None)
        self.store.settled(queue_ids)

    def room(self) -> None:
        """There is room."""


class StoreTestCase(SynchronousTestCase):
    """A store on real files that can be stopped, and started again, in every way."""

    def setUp(self) -> None:
        for module, name in (
            (account_database, "DURABLE"),
            (account_database, "UNSYNCED"),
            (cache_database, "UNSYNCED"),
        ):
            # Syncs are pretended, as in FaultyFiles.
            self.patch(module, name, "OFF")
        self.path = Path(self.mktemp()).absolute()
        self.files = FaultyFiles()
        self.now = NOW
        self.spool: DirectSpool
        self.serial = 0
        self.start()
        self.addCleanup(self.end)

    def start(self, **options: Any) -> MailStore:
        """Open the data directory and the store."""
        self.clock = Clock()
        self.directory = DataDirectory(self.path, self.files)
        self.directory.open()
        self.store = MailStore(
            self.directory,
            self.files,
            SynchronousPool(),
            self.clock,
            lambda function, *arguments: function(*arguments),
            "mx.example.org",
            now=lambda: self.now,
            random_bytes=os.urandom,
            **options,
        )
        rows = self.spool.rows if hasattr(self, "spool") else {}
        self.spool = DirectSpool(self.store)
        self.spool.rows = rows
        self.store.set_spool(self.spool)
        self.store.start()
        return self.store

    def stop(self) -> None:
        """Stop cleanly."""
        self.assertTrue(self.successResultOf(self.store.stop()))
        self.directory.close()

    def kill(self) -> None:
        """Let everything go as the end of the process does."""
        self.files.before = lambda name, arguments: None
        for name in self.store._accounts.open_ones():
            store = self.store._accounts._entries[name].store
            assert store is not None
            store.database.close()
        self.directory.abandon()

    def end(self) -> None:
        """Release what is still held."""
        self.kill()

    def restart(self) -> None:
        """Kill and start again; recover nothing."""
        self.kill()
        self.start()

    def pass_time(self, seconds: float = 1.0) -> None:
        """Let the background passes run."""
        self.now += seconds
        self.clock.advance(seconds)

    # Mail

    def deposit_for(
        self,
        *targets: LocalTarget,
        content: bytes | Path = b"Subject: a\r\n\r\nb\r\n",
        queue_id: str | None = None,
        prefix: bytes = b"Received: x\r\n",
    ) -> Deposit:
        """Return a deposit, kept by the spool until settled."""
        self.serial += 1
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        name = QueueID(queue_id or f"{self.serial:026d}")
        deposit = Deposit(
            name, SENDER, prefix, content, size, self.now, targets or (LocalTarget(ANN),)
        )
        self.spool.rows[name] = deposit
        return deposit

    def deliver(self, *targets: LocalTarget, **options: Any) -> tuple[PlacementResult, ...]:
        """Deposit one message for the first time."""
        deposit = replace(self.deposit_for(*targets, **options), first=True)
        return tuple(self.store.deposit([deposit])[0])

    def deliver_indexed(self, *targets: LocalTarget, **options: Any) -> None:
        """Deposit one message whose index row is written before anything else happens."""
        self.deliver(*targets, **options)
        for target in targets or (LocalTarget(ANN),):
            self.mailbox_ids(target.account_id)

    def uid(self, result: PlacementResult) -> int:
        """Return the UID of a placement that must be one."""
        assert isinstance(result, Placement), result
        return result.uid

    def settle(self) -> None:
        """Sync, and settle all rows."""
        self.store.sync()
        self.spool.forget(list(self.spool.rows))

    def recover(self) -> None:
        """What the spool does at start."""
        deposits = list(self.spool.rows.values())
        for results in self.store.recover(deposits):
            for result in results:
                assert isinstance(result, Placement), result
        self.settle()

    def access(self, account_id: AccountID = ANN) -> Any:
        """Return an account's mail."""
        return self.store.access(account_id, ADDRESS)

    def mailbox_ids(self, account_id: AccountID = ANN) -> dict[str, Any]:
        """Return the ids of an account's mailboxes by name."""
        facts = self.successResultOf(self.access(account_id).mailboxes())
        return {each.name: each.mailbox_id for each in facts}

    def box(self, name: str = "INBOX", account_id: AccountID = ANN) -> Any:
        """Open a mailbox."""
        mailbox_id = self.mailbox_ids(account_id)[name]
        return self.successResultOf(self.access(account_id).open(mailbox_id, False))

    def contents(self, name: str = "INBOX", account_id: AccountID = ANN) -> dict[int, bytes]:
        """Return the octets of every message by UID."""
        from mailhost.interfaces.access import Column

        box = self.box(name, account_id)
        uids = self.successResultOf(box.listing()).uids
        records = self.successResultOf(box.records(uids, Column.CONTENT))
        box.close()
        return {each.uid: each.content for each in records}

    def flags(self, name: str = "INBOX", account_id: AccountID = ANN) -> dict[int, set[str]]:
        """Return the flags of every message by UID."""
        from mailhost.interfaces.access import Column

        box = self.box(name, account_id)
        uids = self.successResultOf(box.listing()).uids
        records = self.successResultOf(box.records(uids, Column.FLAGS))
        box.close()
        return {each.uid: set(each.flags) for each in records}

    def maildir(self, directory: str = "", account_id: AccountID = ANN) -> Path:
        """Return the directory of a mailbox."""
        return self.path / "accounts" / account_id / "Maildir" / directory

    def message_files(self, directory: str = "", account_id: AccountID = ANN) -> list[Path]:
        """Return the message files of a mailbox, by name."""
        maildir = self.maildir(directory, account_id)
        found = [path for part in ("new", "cur") for path in (maildir / part).iterdir()]
        return sorted(found, key=lambda path: path.name)
