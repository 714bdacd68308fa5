"""mutt at a terminal, driven by its own key strokes, and as a program that sends."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

from tests.interop.case import ALICE, BOB, InteropCase, message
from tests.interop.server import PASSWORD


class MuttTests(InteropCase):
    """A person's mail program over IMAPS and submission."""

    programs = ("mutt",)

    def config(self, *lines: str, imap: str = "imaps", smtp: str = "smtps") -> Path:
        """Write a configuration for alice and return its path."""
        port = {"smtp": "submission", "smtps": "submissions"}[smtp]
        (self.home / "tmp").mkdir(exist_ok=True)
        user = ALICE.replace("@", "%40")
        text = [
            f'set folder="{imap}://{user}@localhost:{self.ports[imap]}/"',
            'set spoolfile="+INBOX"',
            f'set imap_user="{ALICE}"',
            f'set imap_pass="{PASSWORD}"',
            f'set smtp_url="{smtp}://{user}@localhost:{self.ports[port]}/"',
            f'set smtp_pass="{PASSWORD}"',
            # 2.2.12 picks SCRAM-SHA-256-PLUS by itself, cannot do it over TLS 1.3, and gives up.
            'set smtp_authenticators="scram-sha-256:plain:login"',
            f'set from="{ALICE}"',
            "set use_from=yes ssl_force_tls=yes ssl_starttls=yes",
            f'set ssl_ca_certificates_file="{self.certificate}"',
            'set record="+Sent" postponed="+Drafts" trash="" mbox="" move=no',
            f'set tmpdir="{self.home}/tmp" certificate_file="{self.home}/accepted"',
            "set delete=yes quit=yes confirmappend=no confirmcreate=no wait_key=no",
            "set header_cache= message_cachedir= abort_nosubject=no sleep_time=0",
            "set mark_old=no pager_stop=yes timeout=2 mail_check=1",
            *lines,
        ]
        path = self.home / "muttrc"
        path.write_text("\n".join(text) + "\n")
        return path

    def at_terminal(self, config: Path, keys: str, seconds: float = 40) -> str:
        """Run mutt on a terminal of its own with pushed keys; return what was on the screen."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        process = subprocess.Popen(
            ["mutt", "-n", "-F", str(config), "-e", f"push '{keys}'"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=self.home,
            env={
                "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                "HOME": str(self.home),
                "TERM": "xterm",
                "LC_ALL": "C.UTF-8",
            },
            start_new_session=True,
        )
        os.close(slave)
        screen = b""
        deadline = time.monotonic() + seconds
        try:
            while process.poll() is None:
                self.assertLess(time.monotonic(), deadline, f"mutt hangs: {screen[-1500:]!r}")
                if select.select([master], [], [], 0.2)[0]:
                    try:
                        screen += os.read(master, 65536)
                    except OSError:
                        break
            process.wait(5)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(5)
            os.close(master)
        self.assertEqual(process.returncode, 0, screen[-1500:])
        return screen.decode("utf-8", "replace")

    def flags(self) -> dict[str, str]:
        """Return the flags of each message in INBOX by its subject."""
        client = self.imap()
        found = {}
        if int(client.select("INBOX", readonly=True)[1][0]):
            rows = client.fetch("1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
            for item in rows:
                if isinstance(item, tuple):
                    subject = item[1].decode().strip().removeprefix("Subject: ")
                    found[subject] = item[0].decode()
        return found

    def test_read_flag_delete_and_save(self) -> None:
        """Keys that read, flag, delete and save to a folder do so on the server."""
        for name in ("one", "two", "three", "four"):
            self.deliver(message(name, f"The text of {name}.\n"))
        self.at_terminal(
            self.config("set sort=mailbox-order"),
            # read one; flag two; delete three; save four to Archive; quit and synchronize
            f"<first-entry><display-message><pipe-message>cat > {self.home}/read<enter><exit>"
            "2<enter><flag-message>3<enter><delete-message>"
            "4<enter><save-message>=Archive<enter><sync-mailbox><quit>",
        )
        self.assertIn("The text of one.", (self.home / "read").read_text())
        flags = self.flags()
        self.assertEqual(set(flags), {"one", "two"})
        self.assertIn(r"\Seen", flags["one"])
        self.assertIn(r"\Flagged", flags["two"])
        self.assertNotIn(r"\Seen", flags["two"])
        (saved,) = self.contents(folder="Archive")
        self.assertIn(b"The text of four.", saved)

    def test_new_mail_is_noticed(self) -> None:
        """Mail that arrives while the mailbox is open is shown and can be read."""
        self.deliver(message("early"))
        script = self.home / "deliver"
        script.write_text(
            "import smtplib\n"
            f"s = smtplib.SMTP('127.0.0.1', {self.ports['smtp']}, 'client.example')\n"
            f"s.sendmail('a@else.example', ['{ALICE}'], 'Subject: late\\n\\nlate text\\n')\n"
        )
        self.at_terminal(
            self.config("set imap_idle=yes"),
            f"<shell-escape>python3 {script}; sleep 1<enter><imap-fetch-mail>"
            f"<last-entry><pipe-message>cat > {self.home}/read<enter><quit>",
        )
        self.assertIn("late text", (self.home / "read").read_text())

    def test_search_on_the_server(self) -> None:
        """A limit by body text is answered by the server."""
        self.deliver(message("one", "hay\n"), message("two", "hay and needle\n"))
        self.at_terminal(
            self.config(),
            "<limit>=b needle<enter><tag-pattern>~A<enter><tag-prefix><flag-message><quit>",
        )
        flags = self.flags()
        self.assertIn(r"\Flagged", flags["two"])
        self.assertNotIn(r"\Flagged", flags["one"])

    def test_folders(self) -> None:
        """A folder made in the browser is there; messages are copied into it by a tag."""
        self.deliver(message("one"), message("two"))
        self.at_terminal(
            self.config(),
            "<tag-pattern>~A<enter><tag-prefix><copy-message>=Project/New<enter><quit>",
        )
        self.assertEqual(self.count(folder="Project/New"), 2)
        self.assertEqual(self.count(), 2)

    def test_sending(self) -> None:
        """A message with an attachment goes through smtp_url and a copy lies in Sent."""
        attached = self.home / "notes.txt"
        attached.write_text("Attached text.\n")
        for smtp, imap in (("smtps", "imaps"), ("smtp", "imap")):
            self.run_program(
                *("mutt", "-n", "-F", self.config(smtp=smtp, imap=imap)),
                *("-s", f"über {smtp}", "-a", attached, "--", BOB),
                stdin="Grüße\n",
            )
        for text in self.arrived(2, BOB):
            self.assertIn(b"notes.txt", text)
        self.assertEqual(len(self.contents(folder="Sent")), 2)

    def test_wrong_password(self) -> None:
        """A wrong password sends nothing and says so."""
        said = self.run_program(
            *("mutt", "-n", "-F", self.config('set smtp_pass="guess"')),
            *("-s", "never", "--", BOB),
            stdin="text\n",
            expect=1,
        )
        self.assertIn("authentication failed", said.stderr.lower() + said.stdout.lower())
        self.assertEqual(self.count(BOB), 0)
