"""TLS contexts: what is negotiated, which certificate, reload, stalled handshakes."""

from __future__ import annotations

import gc
import stat
from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailhost.config.sections import CertificateFiles
from mailhost.errors import ConfigError
from mailhost.files import FileOperations
from mailhost.tls import (
    HANDSHAKE_TIMEOUT,
    SELF_SIGNED_DAYS,
    ServerTLS,
    read_credential,
    self_signed,
)

NOW = 1_800_000_000.0
DAY = 86400


class FakeTLSProtocol:
    """What `serverConnectionForTLS` is given."""

    connected = True

    def __init__(self) -> None:
        self.aborted = False
        self.transport = StringTransport(peerAddress=IPv4Address("TCP", "192.0.2.1", 4321))

    def abortConnection(self) -> None:
        self.aborted = True
        self.connected = False


def client(
    name: bytes = b"",
    alpn: tuple[bytes, ...] = (),
    maximum: int | None = None,
    ciphers: bytes = b"ALL",
) -> SSL.Connection:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if maximum is not None:
        context.set_max_proto_version(maximum)
        context.set_cipher_list(ciphers + b":@SECLEVEL=0")
    if alpn:
        context.set_alpn_protos(list(alpn))
    connection = SSL.Connection(context, None)
    if name:
        connection.set_tlsext_host_name(name)
    connection.set_connect_state()
    return connection


def shake(one: SSL.Connection, other: SSL.Connection) -> None:
    """Exchange octets until both handshakes are done, or raise what one of them raises."""
    done: set[int] = set()
    for _ in range(10):
        for end, peer in ((one, other), (other, one)):
            error: SSL.Error | None = None
            try:
                end.do_handshake()
                done.add(id(end))
            except SSL.WantReadError:
                pass
            except SSL.Error as caught:
                error = caught
            move(end, peer)
            if error is not None:
                raise error
    assert len(done) == 2


def move(source: SSL.Connection, target: SSL.Connection) -> None:
    try:
        target.bio_write(source.bio_read(65536))
    except SSL.WantReadError:
        return


class TLSTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.clock = Clock()

    def certificate(self, hostname: str) -> CertificateFiles:
        directory = self.directory / hostname
        path = self_signed(directory, hostname, NOW, FileOperations())
        return CertificateFiles(certificate=path, key=path)

    def server(self, *certificates: CertificateFiles, now: float = NOW) -> ServerTLS:
        tls = ServerTLS(
            certificates, "mail.example", self.directory / "tls", self.clock, now=lambda: now
        )
        self.addCleanup(tls.stop)
        tls.load()
        return tls

    def connect(self, tls: ServerTLS, end: SSL.Connection, protocol: str = "imap") -> Any:
        connection = tls.creator(protocol).serverConnectionForTLS(FakeTLSProtocol())
        shake(end, connection)
        return connection


def subject(connection: SSL.Connection) -> str:
    certificate = connection.get_peer_certificate()
    assert certificate is not None
    return str(certificate.get_subject().CN)


class NegotiationTests(TLSTestCase):
    """What is agreed on."""

    def test_creator_provides_its_interface(self) -> None:
        """Twisted takes it as it is."""
        verifyObject(IOpenSSLServerConnectionCreator, self.server().creator("imap"))

    def test_tls_1_3_is_preferred_and_1_2_taken(self) -> None:
        """With forward secrecy and an authenticated cipher in both."""
        tls = self.server()
        self.assertEqual(self.connect(tls, client()).get_protocol_version_name(), "TLSv1.3")
        connection = self.connect(tls, client(maximum=SSL.TLS1_2_VERSION))
        self.assertEqual(connection.get_protocol_version_name(), "TLSv1.2")
        self.assertRegex(connection.get_cipher_name(), r"\AECDHE-ECDSA-(AES\d+-GCM|CHACHA20)")

    def test_older_versions_are_refused(self) -> None:
        """TLS 1.1 and below are not spoken (R-18)."""
        tls = self.server()
        for version in (SSL.TLS1_VERSION, SSL.TLS1_1_VERSION):
            self.assertRaises(SSL.Error, self.connect, tls, client(maximum=version))

    def test_old_ciphers_are_refused(self) -> None:
        """No CBC, no RSA key exchange, no RC4 or 3DES (R-18)."""
        tls = self.server()
        for ciphers in (b"ECDHE+AES128+SHA256:!AESGCM", b"kRSA", b"ECDHE+AES+SHA1"):
            end = client(maximum=SSL.TLS1_2_VERSION, ciphers=ciphers)
            self.assertRaises(SSL.Error, self.connect, tls, end)

    def test_renegotiation_is_refused(self) -> None:
        """A client cannot make the server compute handshakes over and over (R-18)."""
        end = client(maximum=SSL.TLS1_2_VERSION)
        connection = self.connect(self.server(), end)
        self.assertTrue(end.renegotiate())
        self.assertRaises(SSL.WantReadError, end.do_handshake)
        move(end, connection)
        self.assertRaises(SSL.WantReadError, connection.recv, 10)
        move(connection, end)
        self.assertRaises(SSL.Error, end.do_handshake)
        self.assertEqual(connection.total_renegotiations(), 0)

    def test_a_known_protocol_name_is_chosen(self) -> None:
        """Each listener answers to its own names."""
        tls = self.server()
        for protocol, offered, chosen in (
            ("imap", (b"h2", b"imap"), b"imap"),
            ("pop3", (b"pop3",), b"pop3"),
            ("smtp", (b"esmtp",), b"esmtp"),
            ("submission", (b"smtp",), b"smtp"),
            ("imap", (), b""),
        ):
            connection = self.connect(tls, client(alpn=offered), protocol)
            self.assertEqual(connection.get_alpn_proto_negotiated(), chosen)

    def test_a_foreign_protocol_name_is_refused(self) -> None:
        """A browser that was led to the IMAP port gets an alert, not a session (R-21)."""
        tls = self.server()
        for offered in ((b"http/1.1",), (b"h2", b"http/1.1"), (b"pop3",)):
            self.assertRaises(SSL.Error, self.connect, tls, client(alpn=offered))
        self.connect(tls, client(alpn=(b"imap",)))


class CertificateChoiceTests(TLSTestCase):
    """Which certificate a client gets."""

    def test_the_name_decides(self) -> None:
        """Exact names, wildcards, and the first certificate for all others."""
        tls = self.server(
            self.certificate("mail.example"),
            self.certificate("imap.example.org"),
            self.certificate("*.example.net"),
        )
        for name, expected in (
            (b"imap.example.org", "imap.example.org"),
            (b"IMAP.Example.ORG", "imap.example.org"),
            (b"a.example.net", "*.example.net"),
            (b"b.a.example.net", "mail.example"),
            (b"unknown.example", "mail.example"),
            (b"", "mail.example"),
            (b"\xff", "mail.example"),
        ):
            end = client(name)
            self.connect(tls, end)
            self.assertEqual(subject(end), expected)

    def test_unknown_names_leave_nothing_behind(self) -> None:
        """Any number of invented names makes no context (R-18)."""
        tls = self.server(self.certificate("mail.example"))
        contexts = tls.contexts((b"imap",))
        names = dict(contexts.by_name)
        for number in range(50):
            self.connect(tls, client(b"x%d.example" % number))
        self.assertEqual(contexts.by_name, names)
        self.assertIs(tls.contexts((b"imap",)), contexts)

    def test_the_protocol_names_hold_for_every_certificate(self) -> None:
        """The chosen certificate's context refuses foreign protocols too."""
        tls = self.server(self.certificate("mail.example"), self.certificate("imap.example.org"))
        end = client(b"imap.example.org", (b"h2",))
        self.assertRaises(SSL.Error, self.connect, tls, end)


class ReloadTests(TLSTestCase):
    """New certificates while sessions last."""

    def test_new_sessions_get_the_new_certificate(self) -> None:
        """And the session that was there goes on."""
        old = self.certificate("mail.example")
        tls = self.server(old)
        before = client()
        connection = self.connect(tls, before)
        creator = tls.creator("imap")
        new = self.certificate("new.example")
        old.certificate.write_bytes(new.certificate.read_bytes())
        self.assertTrue(tls.reload())
        after = client()
        shake(after, creator.serverConnectionForTLS(FakeTLSProtocol()))
        self.assertEqual((subject(before), subject(after)), ("mail.example", "new.example"))
        connection.send(b"still here")
        move(connection, before)
        self.assertEqual(before.recv(100), b"still here")

    def test_a_broken_certificate_leaves_the_old_one(self) -> None:
        """Whatever is wrong with it, connections go on, and the log says why (R-20)."""
        files = self.certificate("mail.example")
        other = self.certificate("other.example")
        tls = self.server(files)
        for content in (
            b"",
            b"garbage",
            files.certificate.read_bytes()[:300],
            other.key.read_bytes().split(b"-----BEGIN PRIVATE")[0],
        ):
            files.certificate.write_bytes(content)
            with capturedLogs() as events:
                self.assertFalse(tls.reload())
            self.assertEqual([event["event"] for event in events], ["tls.certificates.rejected"])
            end = client()
            self.connect(tls, end)
            self.assertEqual(subject(end), "mail.example")
        files.certificate.unlink()
        self.assertFalse(tls.reload())

    def test_another_list_of_certificates(self) -> None:
        """A reload of the configuration may name other files; a wrong list is forgotten."""
        tls = self.server(self.certificate("mail.example"))
        missing = CertificateFiles(certificate=Path("/nonexistent"), key=Path("/nonexistent"))
        self.assertFalse(tls.reload([missing]))
        self.assertTrue(tls.reload())
        self.assertTrue(tls.reload([self.certificate("b.example")]))
        self.assertTrue(tls.reload())
        end = client()
        self.connect(tls, end)
        self.assertEqual(subject(end), "b.example")

    def test_a_certificate_near_its_end_is_told(self) -> None:
        """The operator hears of it two weeks before."""
        files = self.certificate("mail.example")
        with capturedLogs() as events:
            self.server(files, now=NOW + (SELF_SIGNED_DAYS - 13) * DAY)
        self.assertEqual([event["event"] for event in events], ["tls.certificates.expiring"])

    def test_tickets_do_not_outlive_a_reload(self) -> None:
        """New contexts have new ticket keys."""
        tls = self.server(self.certificate("mail.example"))
        first = client(maximum=SSL.TLS1_2_VERSION)
        self.connect(tls, first)
        session = first.get_session()

        def resumes() -> bool:
            end = SSL.Connection(first.get_context(), None)
            end.set_connect_state()
            end.set_session(session)
            connection = self.connect(tls, end)
            return bool(connection.master_key() == first.master_key())

        self.assertTrue(resumes())
        tls.reload()
        self.assertFalse(resumes())


class FaultTests(TLSTestCase):
    """Files that cannot be used."""

    def assert_fault(self, files: CertificateFiles, path: str, words: str) -> None:
        error = self.assertRaises(ConfigError, read_credential, files, "certificates[0]")
        self.assertEqual(error.path, path)
        self.assertIn(words, error.problem)

    def test_each_mistake_has_its_words(self) -> None:
        """Missing, not PEM, not the right key: which key of the configuration, and why."""
        good, other = self.certificate("a.example"), self.certificate("b.example")
        nothing, empty = Path("/nonexistent"), self.directory / "empty"
        empty.write_bytes(b"")
        for certificate, key, path, words in (
            (nothing, good.key, "certificates[0].certificate", "No such file"),
            (good.certificate, nothing, "certificates[0].key", "No such file"),
            (empty, good.key, "certificates[0].certificate", "no certificate"),
            (good.certificate, empty, "certificates[0].key", "no private key"),
            (good.certificate, other.key, "certificates[0].key", "not the key of"),
        ):
            self.assert_fault(CertificateFiles(certificate=certificate, key=key), path, words)

    def test_a_key_with_a_password_is_refused(self) -> None:
        """Nobody could type it at start."""
        from cryptography.hazmat.primitives import serialization

        good = self.certificate("a.example")
        key = serialization.load_pem_private_key(good.key.read_bytes(), None)
        locked = self.directory / "locked"
        locked.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"x"),
            )
        )
        files = CertificateFiles(certificate=good.certificate, key=locked)
        self.assert_fault(files, "certificates[0].key", "password")


class SelfSignedTests(TLSTestCase):
    """The certificate that is made when none is configured."""

    def make(self, hostname: str = "mail.example", now: float = NOW) -> bytes:
        return self_signed(self.directory / "tls", hostname, now, FileOperations()).read_bytes()

    def test_it_names_host_and_loopback(self) -> None:
        """A client that trusts it may use any of those names."""
        certificate = x509.load_pem_x509_certificate(self.make())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["mail.example", "localhost"])
        self.assertEqual(
            [str(each) for each in names.get_values_for_type(x509.IPAddress)], ["127.0.0.1", "::1"]
        )

    def test_it_is_private(self) -> None:
        """Directory 0700, file 0600, nothing else left there."""
        self.make()
        directory = self.directory / "tls"
        self.assertEqual(stat.S_IMODE(directory.stat().st_mode), 0o700)
        self.assertEqual([each.name for each in directory.iterdir()], ["self-signed.pem"])
        self.assertEqual(stat.S_IMODE((directory / "self-signed.pem").stat().st_mode), 0o600)

    def test_it_stays_until_it_must_be_renewed(self) -> None:
        """Clients that pinned it keep working; a new name, its end or damage makes a new one."""
        first = self.make()
        self.assertEqual(self.make(now=NOW + (SELF_SIGNED_DAYS - 31) * DAY), first)
        renewed = self.make(now=NOW + (SELF_SIGNED_DAYS - 29) * DAY)
        self.assertNotEqual(renewed, first)
        renamed = self.make("other.example", NOW + SELF_SIGNED_DAYS * DAY)
        self.assertNotEqual(renamed, renewed)
        (self.directory / "tls" / "self-signed.pem").write_bytes(renamed[:100])
        self.assertNotEqual(self.make("other.example"), renamed[:100])

    def test_a_directory_that_cannot_be_written_is_a_config_error(self) -> None:
        """One line that names the directory."""
        (self.directory / "tls").write_bytes(b"")
        error = self.assertRaises(ConfigError, self.server)
        self.assertEqual(error.path, "data_directory")

    def test_a_very_long_host_name(self) -> None:
        """The common name is cut, the full name is in the certificate."""
        hostname = "x" * 60 + ".example.org"
        credential = x509.load_pem_x509_certificate(self.make(hostname))
        names = credential.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertIn(hostname, names.get_values_for_type(x509.DNSName))


class StalledHandshakeTests(TLSTestCase):
    """Clients that begin a handshake and do not end it (R-19)."""

    def advance(self, seconds: float) -> None:
        self.clock.pump([1.0] * int(seconds))

    def test_a_stalled_handshake_is_ended(self) -> None:
        """After the timeout, give or take the sweep, the connection is gone and logged."""
        protocol = FakeTLSProtocol()
        connection = self.server().creator("imap").serverConnectionForTLS(protocol)
        connection.bio_write(b"\x16\x03\x01")
        self.advance(HANDSHAKE_TIMEOUT - 1)
        self.assertFalse(protocol.aborted)
        with capturedLogs() as events:
            self.advance(7)
        self.assertTrue(protocol.aborted)
        self.assertEqual(
            [(event["event"], event["peer"]) for event in events],
            [("tls.handshake.timeout", "192.0.2.1")],
        )
        self.advance(10)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_finished_handshake_is_left_alone(self) -> None:
        """Sessions may be idle as long as their protocol allows, with TLS 1.2 and 1.3 alike."""
        tls = self.server()
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            protocol = FakeTLSProtocol()
            connection = tls.creator("imap").serverConnectionForTLS(protocol)
            shake(client(maximum=version), connection)
            self.advance(2 * HANDSHAKE_TIMEOUT)
            self.assertFalse(protocol.aborted)

    def test_connections_that_are_gone_are_not_kept(self) -> None:
        """The watch holds no connection alive."""
        tls = self.server()
        protocol = FakeTLSProtocol()
        connection = tls.creator("imap").serverConnectionForTLS(protocol)
        import weakref

        references = [weakref.ref(protocol), weakref.ref(connection)]
        del protocol, connection
        gc.collect()
        self.assertEqual([reference() for reference in references], [None, None])
        self.advance(2 * HANDSHAKE_TIMEOUT)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_under_twisted_the_transport_is_aborted(self) -> None:
        """The real TLS protocol over a transport ends for a client that sends nothing."""
        wrapped = Factory.forProtocol(Protocol)
        factory = TLSMemoryBIOFactory(self.server().creator("imap"), False, wrapped, self.clock)
        protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        assert protocol is not None
        transport = StringTransport(peerAddress=IPv4Address("TCP", "192.0.2.1", 1))
        protocol.makeConnection(transport)
        self.advance(HANDSHAKE_TIMEOUT + 6)
        self.assertTrue(transport.disconnected or transport.disconnecting)
