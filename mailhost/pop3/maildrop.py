"""
The INBOX as one POP3 session sees it: numbered messages, as they were at login (RFC 1939 4).

The mailbox is not locked: other sessions may use it meanwhile. What they remove is answered with
-ERR here, what arrives is seen at the next login; numbers and unique ids do not change.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from mailhost.errors import NoSuchMailbox
from mailhost.interfaces.access import Column, FlagOperation, IMailAccess, IMailbox

_PORTION = 5000


class Maildrop:
    """
    Messages numbered from 1, and which of them are marked as deleted.

    Args:
        mailbox: open; closed by `close`.
        uids, sizes: of the messages, in order.
    """

    def __init__(self, mailbox: IMailbox, uids: array[int], sizes: array[int]) -> None:
        self.mailbox = mailbox
        self._uids = uids
        self._sizes = sizes
        self._deleted: set[int] = set()
        self._retrieved: set[int] = set()
        self._total = sum(sizes)

    @property
    def deleted(self) -> int:
        """How many messages are marked as deleted."""
        return len(self._deleted)

    @property
    def stat(self) -> tuple[int, int]:
        """Count and octets of the messages that are not marked."""
        return len(self._uids) - len(self._deleted), self._total

    def exists(self, number: int) -> bool:
        """Whether a message has that number and is not marked as deleted."""
        return 1 <= number <= len(self._uids) and number not in self._deleted

    def uid(self, number: int) -> int:
        """Return the UID of an existing message."""
        return self._uids[number - 1]

    def scan_line(self, number: int) -> bytes:
        """Return number and size (RFC 1939 5, LIST)."""
        return b"%d %d" % (number, self._sizes[number - 1])

    def unique_id_line(self, number: int) -> bytes:
        """Return number and unique id, which stays for as long as the message (RFC 1939 7)."""
        return b"%d %d.%d" % (number, self.mailbox.uid_validity, self._uids[number - 1])

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the messages that are not marked."""
        for number in range(1, len(self._uids) + 1):
            if number not in self._deleted:
                yield number

    def delete(self, number: int) -> None:
        """Mark an existing message as deleted."""
        self._deleted.add(number)
        self._total -= self._sizes[number - 1]

    def reset(self) -> None:
        """Take all marks away."""
        self._deleted.clear()
        self._total = sum(self._sizes)

    def retrieved(self, number: int) -> None:
        """Note that the client has the whole message."""
        self._retrieved.add(number)

    async def update(self) -> int:
        """
        Remove the marked messages durably and return how many there were; flag the retrieved.

        Raises:
            StorageError: and nothing may have been removed.
        """
        deleted = [self.uid(number) for number in sorted(self._deleted)]
        if deleted:
            await self.mailbox.expunge(deleted, marked=False)
        seen = [self.uid(number) for number in sorted(self._retrieved - self._deleted)]
        if seen:
            await self.mailbox.store(seen, FlagOperation.ADD, ("\\Seen",))
        return len(deleted)

    def close(self) -> None:
        """End the use of the mailbox. Marks are forgotten."""
        self.mailbox.close()


async def open_maildrop(access: IMailAccess) -> Maildrop:
    """
    Return the messages of the account's INBOX.

    Raises:
        StorageError: it cannot be opened.
    """
    for facts in await access.mailboxes():
        if facts.name == "INBOX" and facts.mailbox_id is not None:
            mailbox = await access.open(facts.mailbox_id, False)
            break
    else:
        raise NoSuchMailbox("INBOX")
    try:
        listing = await mailbox.listing()
        uids, sizes = array("I"), array("Q")
        for start in range(0, len(listing.uids), _PORTION):
            portion = listing.uids[start : start + _PORTION]
            for record in await mailbox.records(portion, Column.SIZE):
                uids.append(record.uid)
                sizes.append(record.size)
    except BaseException:
        mailbox.close()
        raise
    return Maildrop(mailbox, uids, sizes)
