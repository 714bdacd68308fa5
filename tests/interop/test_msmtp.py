"""msmtp, the sendmail of people who have none."""

from __future__ import annotations

from subprocess import CompletedProcess

from tests.interop.case import ALICE, BOB, InteropCase, message
from tests.interop.server import PASSWORD

NO_PERMISSION = 77
UNAVAILABLE = 69
DATA_ERROR = 65


class MsmtpTests(InteropCase):
    """Submission with a configuration file, as a user has it."""

    programs = ("msmtp",)

    def msmtp(
        self,
        *recipients: str,
        port: str = "submission",
        password: str = PASSWORD,
        auth: str = "on",
        settings: str = "",
        expect: int = 0,
    ) -> CompletedProcess[str]:
        """Send a message of alice."""
        config = self.home / "msmtprc"
        config.write_text(
            f"account default\nhost localhost\nport {self.ports[port]}\nfrom {ALICE}\n"
            f"auth {auth}\nuser {ALICE}\npassword {password}\n"
            f"tls on\ntls_trust_file {self.certificate}\n"
            f"tls_starttls {'on' if port == 'submission' else 'off'}\n{settings}\n"
        )
        config.chmod(0o600)
        return self.run_program(
            *("msmtp", f"--file={config}", *recipients),
            stdin=message("from msmtp", ".dot\n", From=ALICE).as_bytes(),
            expect=expect,
        )

    def test_starttls_and_implicit_tls(self) -> None:
        """Both ways to TLS, with the certificate verified."""
        self.msmtp(BOB)
        self.msmtp(BOB, port="submissions")
        for text in self.arrived(2, BOB):
            self.assertTrue(text.endswith(b"\r\n.dot\r\n"))

    def test_each_mechanism(self) -> None:
        """PLAIN, LOGIN and SCRAM-SHA-256 with its mutual proof."""
        for mechanism in ("plain", "login", "scram-sha-256"):
            self.msmtp(BOB, auth=mechanism)
        self.arrived(3, BOB)

    def test_several_recipients(self) -> None:
        """One message for two accounts."""
        self.msmtp(ALICE, BOB)
        self.arrived(1, ALICE)
        self.arrived(1, BOB)

    def test_wrong_password(self) -> None:
        """A wrong password is refused with every mechanism, and says so."""
        for mechanism in ("plain", "login", "scram-sha-256"):
            said = self.msmtp(BOB, auth=mechanism, password="guess", expect=NO_PERMISSION)
            self.assertIn("535 5.7.8", said.stderr)
        self.assertEqual(self.count(BOB), 0)

    def test_unknown_recipient(self) -> None:
        """An account of ours that does not exist is refused while the user waits."""
        said = self.msmtp("nobody@test.example", expect=DATA_ERROR)
        self.assertIn("550 5.1.1", said.stderr)

    def test_server_information(self) -> None:
        """What the server says of itself is understood."""
        config = self.home / "info"
        config.write_text("")
        said = self.run_program(
            *("msmtp", f"--file={config}", "--serverinfo", "--host=localhost"),
            *(f"--port={self.ports['submission']}", "--tls=on", "--tls-starttls=on"),
            f"--tls-trust-file={self.certificate}",
        ).stdout
        for word in ("SIZE", "PIPELINING", "PLAIN", "LOGIN", "SCRAM-SHA-256"):
            self.assertIn(word, said)
