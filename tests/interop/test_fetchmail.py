"""fetchmail takes mail away over POP3 and IMAP."""

from __future__ import annotations

from subprocess import CompletedProcess

from tests.interop.case import ALICE, InteropCase, message
from tests.interop.server import PASSWORD

NOTHING = 1
LOGIN_FAILED = 3


class FetchmailTests(InteropCase):
    """Each message goes through an mda that writes it to a file of its own."""

    programs = ("fetchmail",)

    def setUp(self) -> None:
        super().setUp()
        self.out = self.home / "out"
        self.out.mkdir()
        mda = self.home / "mda"
        mda.write_text(f'#!/bin/sh\nexec cat > "$(mktemp {self.out}/XXXXXXXX)"\n')
        mda.chmod(0o700)
        self.mda = mda

    def fetch(
        self,
        port: str,
        options: str,
        *,
        server: str = "",
        password: str = PASSWORD,
        expect: int = 0,
    ) -> CompletedProcess[str]:
        """Fetch alice's mail once."""
        tls = (
            f'ssl sslproto "auto" sslcertck sslcertfile "{self.certificate}"'
            if port.endswith("s")
            else f'sslproto "TLS1.2+" sslcertck sslcertfile "{self.certificate}"'
        )
        config = self.home / "fetchmailrc"
        config.write_text(
            f"poll localhost protocol {port.rstrip('s')} service {self.ports[port]} {server}\n"
            f'  user "{ALICE}" password "{password}" {tls}\n'
            f'  {options} mda "{self.mda}"\n'
        )
        config.chmod(0o600)
        return self.run_program(
            *("fetchmail", "--fetchmailrc", config, "--nosyslog", "--verbose"),
            *("--pidfile", self.home / "pid", "--idfile", self.home / "ids"),
            *("--timeout", "20"),
            expect=expect,
        )

    def fetched(self) -> list[bytes]:
        """Return the subjects of what was fetched since the last call."""
        subjects = []
        for path in self.out.iterdir():
            lines = path.read_bytes().splitlines()
            subjects += [line for line in lines if line.startswith(b"Subject:")]
            path.unlink()
        return sorted(subjects)

    def test_without_keep(self) -> None:
        """What was fetched is gone, over each port and protocol."""
        for port in ("pop3", "pop3s", "imap", "imaps"):
            self.deliver(message("one"), message("two"))
            self.fetch(port, "nokeep fetchall")
            self.assertEqual(self.fetched(), [b"Subject: one", b"Subject: two"], port)
            self.arrived(0)

    def test_pop3_with_keep_and_uidl(self) -> None:
        """With UIDs remembered, only what is new is fetched; all of it stays."""
        self.deliver(message("one"), message("two"))
        self.fetch("pop3s", "keep", server="uidl")
        self.assertEqual(len(self.fetched()), 2)
        self.fetch("pop3s", "keep", server="uidl", expect=NOTHING)
        self.deliver(message("three"))
        self.fetch("pop3s", "keep", server="uidl")
        self.assertEqual(self.fetched(), [b"Subject: three"])
        self.assertEqual(self.count(), 3)

    def test_imap_with_keep(self) -> None:
        """What was fetched is marked as seen and not fetched again."""
        self.deliver(message("one"), message("two"))
        self.fetch("imaps", "keep")
        self.assertEqual(len(self.fetched()), 2)
        self.fetch("imaps", "keep", expect=NOTHING)
        self.deliver(message("three"))
        self.fetch("imaps", "keep")
        self.assertEqual(self.fetched(), [b"Subject: three"])
        self.assertEqual(self.count(), 3)

    def test_another_folder(self) -> None:
        """A folder by name."""
        self.imap().append("Archive", "", None, message("kept").as_bytes())
        self.fetch("imaps", 'nokeep fetchall folder "Archive"')
        self.assertEqual(self.fetched(), [b"Subject: kept"])
        self.assertEqual(self.count(folder="Archive"), 0)

    def test_wrong_password(self) -> None:
        """A wrong password is a failed login, and nothing is taken."""
        self.deliver(message("one"))
        for port in ("pop3s", "imaps"):
            self.fetch(port, "nokeep fetchall", password="guess", expect=LOGIN_FAILED)
        self.assertEqual(self.fetched(), [])
        self.assertEqual(self.count(), 1)
