"""imaplib and plain sockets: the commands that no program of this suite gives by itself."""

from __future__ import annotations

import imaplib
import re
import socket
import ssl
import threading
import time
from typing import Any

from tests.interop.case import ALICE, DEFAULT_FOLDERS, InteropCase, message
from tests.interop.server import PASSWORD


class ImaplibTests(InteropCase):
    """Python's client over TLS."""

    def command(self, client: imaplib.IMAP4, *words: str) -> bytes:
        """Give a command that imaplib does not know and return the text of its OK."""
        name, *arguments = words
        imaplib.Commands.setdefault(name, ("AUTH", "SELECTED"))
        kind, data = client._simple_command(name, *arguments)
        self.assertEqual(kind, "OK", data)
        return data[-1]

    def filled(self, count: int = 5) -> imaplib.IMAP4_SSL:
        """Return a client with INBOX selected, which holds that many messages."""
        client = self.imap()
        for number in range(1, count + 1):
            text = message(f"number {number}", f"text {number}\n")
            client.append("INBOX", None, None, text.as_bytes())
        client.select("INBOX")
        return client

    def rows(self, found: tuple[str, list[Any]]) -> list[str]:
        """Return the lines of a FETCH without literals."""
        kind, data = found
        self.assertEqual(kind, "OK")
        return [item.decode() for item in data if isinstance(item, bytes)]

    def test_capabilities(self) -> None:
        """What is promised before and after the login."""
        client = imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=20)
        self.addCleanup(client.shutdown)
        self.assertIn("STARTTLS", client.capabilities)
        client.starttls(self.trusting())
        self.assertNotIn("STARTTLS", client.capabilities)
        client.login(ALICE, PASSWORD)
        after = set(client.capability()[1][0].decode().split())
        wanted = (
            "IMAP4rev1 IDLE UIDPLUS MOVE NAMESPACE ID ENABLE LITERAL+ SASL-IR UNSELECT CHILDREN "
            "SPECIAL-USE ESEARCH LIST-EXTENDED LIST-STATUS CONDSTORE"
        )
        self.assertLessEqual(set(wanted.split()) - {"SASL-IR"}, after)

    def test_append_keeps_octets_flags_and_date(self) -> None:
        """What was appended is fetched as it was, and its UID is told."""
        client = self.imap()
        data = b"Subject: odd\r\n\r\n\x00nul \xff\xfe 8-bit\r\n" + b"y" * 5000 + b"\r\n"
        data = data.replace(b"\x00", b"")
        when = '"05-Feb-2021 06:07:08 +0130"'
        kind, said = client.append("Drafts", r"(\Seen \Flagged $Work)", when, data)
        self.assertEqual(kind, "OK")
        uid = int(re.search(rb"\[APPENDUID \d+ (\d+)\]", said[0])[1])
        client.select("Drafts")
        kind, found = client.uid("FETCH", str(uid), "(FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")
        self.assertEqual(found[0][1], data)
        head = found[0][0].decode()
        self.assertIn(f"RFC822.SIZE {len(data)}", head)
        for flag in (r"\Seen", r"\Flagged", "$Work"):
            self.assertIn(flag, head)
        date = re.search(r'INTERNALDATE "([^"]+)"', head)[1]
        # 06:07:08 +0130 is 04:37:08 UTC, in whatever zone it is told
        told = time.mktime(imaplib.Internaldate2tuple(b'INTERNALDATE "%b"' % date.encode()))
        self.assertEqual(told, 1612499828)

    def test_append_to_a_missing_folder(self) -> None:
        """The refusal says that the folder can be made."""
        kind, said = self.imap().append("Nowhere", None, None, b"Subject: x\r\n\r\n")
        self.assertEqual(kind, "NO")
        self.assertTrue(said[0].startswith(b"[TRYCREATE]"), said)

    def test_search(self) -> None:
        """Keys of many kinds, combined, by number and by UID."""
        client = self.filled()
        client.append(
            "INBOX",
            r"(\Seen)",
            '"01-Jan-2001 12:00:00 +0000"',
            message("Grüße aus Köln", "Straße\n", From="zoe@else.example").as_bytes(),
        )
        client.noop()
        for criteria, expected in (
            ('SUBJECT "number 3"', b"3"),
            ("BODY text", b"1 2 3 4 5"),
            ("SEEN", b"6"),
            ("UNSEEN 2:3", b"2 3"),
            ("BEFORE 1-Jan-2010", b"6"),
            ("OR SUBJECT 1 SUBJECT 2", b"1 2"),
            ("NOT FROM someone", b"6"),
            ("HEADER To alice LARGER 10 SMALLER 100000 1", b"1"),
            ("KEYWORD $None", b""),
            ("UID 1:* 5:*", b"5 6"),
        ):
            kind, found = client.search(None, criteria)
            self.assertEqual((kind, found[0]), ("OK", expected), criteria)
        client.literal = "KÖLN".encode()
        self.assertEqual(client.search("UTF-8", "SUBJECT")[1], [b"6"])
        client.literal = b"STRASSE"
        self.assertEqual(client.search("UTF-8", "TEXT")[0], "OK")
        self.assertEqual(client.search("X-NONE", "TEXT", "x")[0], "NO")
        self.command(client, "SEARCH", "RETURN (MIN MAX COUNT ALL)", "UNSEEN")
        (line,) = client.untagged_responses["ESEARCH"]
        for part in (b"MIN 1", b"MAX 5", b"COUNT 5", b"ALL 1:5"):
            self.assertIn(part, line)

    def test_copy_and_move(self) -> None:
        """COPY and MOVE tell the UIDs on both sides; moved mail is gone here."""
        client = self.filled()
        kind, _ = client.uid("COPY", "1:*", "Archive")
        self.assertEqual(kind, "OK")
        self.assertEqual(self.count(folder="Archive"), 5)
        self.command(client, "MOVE", "2:3", "Trash")
        self.assertEqual(client.untagged_responses["EXPUNGE"], [b"2", b"2"])
        self.assertEqual(self.count(folder="Trash"), 2)
        self.assertEqual(self.count(), 3)
        kind, said = client.copy("1", "Nowhere")
        self.assertEqual(kind, "NO")
        self.assertTrue(said[0].startswith(b"[TRYCREATE]"), said)

    def test_flags_and_expunge_by_uid(self) -> None:
        """Replaced, added and removed flags; UID EXPUNGE removes only what it names."""
        client = self.filled()
        client.store("1:5", "FLAGS", r"(\Deleted Urgent)")
        client.store("2", "-FLAGS", "Urgent")
        client.store("5", "FLAGS", "()")
        rows = self.rows(client.fetch("1:5", "(UID FLAGS)"))
        self.assertIn("Urgent", rows[0])
        self.assertNotIn("Urgent", rows[1])
        self.assertNotIn("Deleted", rows[4])
        first = int(re.search(r"UID (\d+)", rows[0])[1])
        client.uid("EXPUNGE", f"{first}:{first + 1}")
        self.assertEqual(self.count(), 3)
        client.close()
        self.assertEqual(self.count(), 1)

    def test_condstore(self) -> None:
        """Mod-sequences rise, CHANGEDSINCE finds changes, UNCHANGEDSINCE keeps from harm."""
        client = self.imap()
        for number in range(3):
            client.append("INBOX", None, None, message(f"number {number}").as_bytes())
        self.command(client, "SELECT", "INBOX", "(CONDSTORE)")
        client.state = "SELECTED"
        before = int(client.response("HIGHESTMODSEQ")[1][0])
        client.store("2", "+FLAGS", r"(\Seen)")
        (row,) = self.rows(client.fetch("1:*", f"(FLAGS) (CHANGEDSINCE {before})"))
        self.assertTrue(row.startswith("2 "), row)
        now = int(re.search(r"MODSEQ \((\d+)\)", row)[1])
        self.assertGreater(now, before)
        client._simple_command(
            "STORE", "1:3", f"(UNCHANGEDSINCE {before})", "+FLAGS", r"(\Flagged)"
        )
        client.response("FETCH")
        flagged = [r"\Flagged" in row for row in self.rows(client.fetch("1:3", "(FLAGS)"))]
        self.assertEqual(flagged, [True, False, True])

    def test_list_and_special_use(self) -> None:
        """Folders with their uses, children, subscriptions and status in one command."""
        client = self.imap()
        for name in ("Work", "Work/One", "Work/One/Two", "&ZeVnLIqe-"):
            self.assertEqual(client.create(f'"{name}"')[0], "OK")
        listed = b"\n".join(client.list()[1]).decode()
        for name in DEFAULT_FOLDERS - {"INBOX"}:
            self.assertRegex(listed, rf'\(.*\\{name}.*\) "/" "?{name}"?')
        self.assertRegex(listed, r'\(.*\\HasChildren.*\) "/" "?Work"?\n')
        self.assertIn("&ZeVnLIqe-", listed)
        self.assertEqual(len(client.list('""', "Work/%")[1]), 1)
        self.assertEqual(len(client.list('""', "Work*")[1]), 3)
        client.subscribe("Work")
        self.assertIn(b"Work", b"".join(client.lsub()[1]))
        client.append("Work/One", None, None, message("x").as_bytes())
        self.command(client, "LIST", '""', '"Work/*"', "RETURN (STATUS (MESSAGES UNSEEN))")
        status = b"\n".join(client.untagged_responses["STATUS"])
        self.assertRegex(status, rb'"?Work/One"? \(MESSAGES 1 UNSEEN 1\)')
        client.rename("Work", "Play")
        self.assertEqual(self.count(folder="Play/One"), 1)
        self.assertIn(b'(("" "/"))', client.namespace()[1][0])
        self.assertEqual(client.delete("INBOX")[0], "NO")

    def test_uid_validity_of_a_folder_made_again(self) -> None:
        """A folder that has the name of a deleted one is another folder."""
        client = self.imap()
        seen = []
        for _ in range(2):
            client.create("Again")
            client.select("Again")
            seen.append(int(client.response("UIDVALIDITY")[1][0]))
            client.unselect()
            client.delete("Again")
        self.assertGreater(seen[1], seen[0])

    def test_two_sessions_see_each_other(self) -> None:
        """One session's changes reach the other at its next command, in an order that fits."""
        first, second = self.filled(), self.imap()
        second.select("INBOX")
        first.store("2", "+FLAGS", r"(\Deleted)")
        first.expunge()
        first.store("3", "+FLAGS", r"(\Answered)")
        second.noop()
        self.assertEqual(second.response("EXPUNGE")[1], [b"2"])
        self.assertIn(b"Answered", second.response("FETCH")[1][0])
        rows = self.rows(second.fetch("1:*", "(FLAGS)"))
        self.assertEqual(len(rows), 4)
        self.assertIn("Answered", rows[2])

    def test_parts_and_partial_fetch(self) -> None:
        """Sections of a multipart message, and octets from the middle."""
        mixed = message("mixed", "first part\n")
        mixed.add_attachment(bytes(range(256)) * 100, "application", "octet-stream", filename="b")
        client = self.imap()
        client.append("INBOX", None, None, mixed.as_bytes())
        client.select("INBOX")
        self.assertEqual(client.fetch("1", "(BODY.PEEK[1])")[1][0][1], b"first part\r\n")
        self.assertIn(b"base64", client.fetch("1", "(BODY.PEEK[2.MIME])")[1][0][1])
        whole = client.fetch("1", "(BODY.PEEK[])")[1][0][1]
        self.assertEqual(client.fetch("1", "(BODY.PEEK[]<100.50>)")[1][0][1], whole[100:150])
        self.assertIn("(BODYSTRUCTURE ((", self.rows(client.fetch("1", "(BODYSTRUCTURE)"))[0])
        self.assertNotIn(r"\Seen", self.rows(client.fetch("1", "(FLAGS)"))[0])
        client.fetch("1", "(BODY[1])")
        self.assertIn(r"\Seen", self.rows(client.fetch("1", "(FLAGS)"))[0])

    def test_login_failure_tells_nothing(self) -> None:
        """Unknown users and wrong passwords get the same words."""
        said = set()
        for user in (ALICE, "nobody@test.example"):
            client = imaplib.IMAP4_SSL(
                "127.0.0.1", self.ports["imaps"], ssl_context=self.trusting(), timeout=20
            )
            self.addCleanup(client.shutdown)
            error = self.assertRaises(imaplib.IMAP4.error, client.login, user, "guess")
            said.add(str(error))
        self.assertEqual(len(said), 1)
        self.assertIn("AUTHENTICATIONFAILED", said.pop())


class IdleTests(InteropCase):
    """IDLE by hand: octets on a socket."""

    def setUp(self) -> None:
        super().setUp()
        plain = socket.create_connection(("127.0.0.1", self.ports["imaps"]), 20)
        self.socket: ssl.SSLSocket = self.trusting().wrap_socket(plain, server_hostname="localhost")
        self.addCleanup(self.socket.close)
        self.buffer = b""
        self.until(b"ready\r\n")
        self.say(f'a LOGIN {ALICE} "{PASSWORD}"')
        self.until(b"a OK")
        self.say("b SELECT INBOX")
        self.until(b"b OK")

    def say(self, line: str) -> None:
        """Send a line."""
        self.socket.sendall(line.encode() + b"\r\n")

    def until(self, wanted: bytes, seconds: float = 10) -> bytes:
        """Read until there is a line with these octets, and return all that came."""
        deadline = time.monotonic() + seconds
        pattern = re.compile(re.escape(wanted.rstrip(b"\r\n")) + rb"[^\n]*\n")
        while not (match := pattern.search(self.buffer)):
            self.socket.settimeout(max(deadline - time.monotonic(), 0.01))
            data = self.socket.recv(65536)
            self.assertTrue(data, f"the connection ended after {self.buffer!r}")
            self.buffer += data
        found, self.buffer = self.buffer[: match.end()], self.buffer[match.end() :]
        return found

    def test_mail_flags_and_expunges_are_pushed(self) -> None:
        """Everything that happens is told while the client only listens."""
        self.say("c IDLE")
        self.until(b"+ ")
        began = time.monotonic()
        self.deliver(message("pushed"))
        self.until(b"* 1 EXISTS\r\n")
        self.assertLess(time.monotonic() - began, 5)
        other = self.imap()
        other.select("INBOX")
        other.store("1", "+FLAGS", r"(\Answered \Deleted)")
        self.assertIn(b"\\Answered", self.until(b"* 1 FETCH"))
        other.expunge()
        self.until(b"* 1 EXPUNGE\r\n")
        self.say("DONE")
        self.until(b"c OK")

    def test_pipelined_commands_are_answered_in_order(self) -> None:
        """Commands that came in one segment are answered one after the other."""
        self.socket.sendall(
            b"d NOOP\r\ne APPEND INBOX {13+}\r\nSubject: x\r\n\r\n\r\nf FETCH 1 RFC822.SIZE\r\n"
            b"g IDLE\r\nDONE\r\nh UNSELECT\r\ni LOGOUT\r\n"
        )
        said = self.until(b"i OK")
        order = re.findall(rb"^([d-i]) (\w+)", said, re.MULTILINE)
        self.assertEqual([tag for tag, _ in order], [b"d", b"e", b"f", b"g", b"h", b"i"])
        self.assertEqual({word for _, word in order}, {b"OK"})
        self.assertEqual(self.count(), 1)

    def test_nonsense_is_refused_and_the_session_goes_on(self) -> None:
        """Unknown commands and bad arguments are BAD; the next command works."""
        for line in ("k FROBNICATE", "k FETCH x y", "k FETCH 1 (", "k", "", "k SELECT"):
            self.say(line)
        self.say("l NOOP")
        said = self.until(b"l OK")
        self.assertGreaterEqual(said.count(b" BAD "), 5)
        self.assertNotIn(b"Traceback", said)


class ManySessionsTests(InteropCase):
    """Several clients of one account at the same time."""

    def test_appends_in_parallel(self) -> None:
        """Each message appended by eight sessions has a UID of its own, and none is lost."""
        failures: list[BaseException] = []
        context = self.trusting()

        def append(worker: int) -> None:
            try:
                with imaplib.IMAP4_SSL(
                    "127.0.0.1", self.ports["imaps"], ssl_context=context, timeout=30
                ) as client:
                    client.login(ALICE, PASSWORD)
                    for number in range(10):
                        text = message(f"{worker} {number}").as_bytes()
                        assert client.append("INBOX", None, None, text)[0] == "OK"
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=append, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(failures, [])
        client = self.imap()
        self.assertEqual(client.select("INBOX", readonly=True)[1], [b"80"])
        uids = client.uid("SEARCH", "ALL")[1][0].split()
        self.assertEqual(len(set(uids)), 80)
        self.assertEqual(uids, sorted(uids, key=int))
