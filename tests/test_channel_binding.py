"""TLS facts of a real handshake in memory."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from twisted.trial.unittest import SynchronousTestCase

from mailhost.channel_binding import channel_bindings, describe


def certify(key: Any, algorithm: Any) -> x509.Certificate:
    """Return a self-signed certificate."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.example")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.public_key(key.public_key()).not_valid_before(start)
    return builder.not_valid_after(start + datetime.timedelta(9000)).sign(key, algorithm)


def handshake(key: Any, certificate: x509.Certificate, version: int) -> tuple[Any, Any]:
    """Return the server's and the client's connection after a handshake."""
    contexts = SSL.Context(SSL.TLS_METHOD), SSL.Context(SSL.TLS_METHOD)
    contexts[0].use_privatekey(crypto.PKey.from_cryptography_key(key))
    contexts[0].use_certificate(crypto.X509.from_cryptography(certificate))
    contexts[1].set_max_proto_version(version)
    server, client = SSL.Connection(contexts[0], None), SSL.Connection(contexts[1], None)
    server.set_accept_state()
    client.set_connect_state()
    for _ in range(6):
        for end, other in ((client, server), (server, client)):
            try:
                end.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                other.bio_write(end.bio_read(65536))
            except SSL.WantReadError:
                pass
    return server, client


class ChannelBindingTests(SynchronousTestCase):
    """Both binding types, and the description."""

    def test_tls_1_3(self) -> None:
        """TLS 1.3 has both; the exporter's value is the one that the client computes."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = certify(key, hashes.SHA384())
        server, client = handshake(key, certificate, SSL.TLS1_3_VERSION)
        bindings = dict(channel_bindings(server))
        self.assertEqual(
            bindings["tls-exporter"],
            client.export_keying_material(b"EXPORTER-Channel-Binding", 32, b""),
        )
        self.assertEqual(
            bindings["tls-server-end-point"],
            hashlib.sha384(certificate.public_bytes(Encoding.DER)).digest(),
        )
        self.assertRegex(describe(server), r"\ATLSv1\.3 TLS_[A-Z0-9_]+\Z")

    def test_tls_1_2_has_no_exporter_binding(self) -> None:
        """Before TLS 1.3 only the certificate binds."""
        key = ec.generate_private_key(ec.SECP256R1())
        server, _ = handshake(key, certify(key, hashes.SHA256()), SSL.TLS1_2_VERSION)
        self.assertEqual([name for name, _ in channel_bindings(server)], ["tls-server-end-point"])
        self.assertTrue(describe(server).startswith("TLSv1.2 ECDHE-"))

    def test_signature_without_hash_has_no_end_point(self) -> None:
        """Ed25519 defines no end point hash."""
        key = ed25519.Ed25519PrivateKey.generate()
        server, _ = handshake(key, certify(key, None), SSL.TLS1_3_VERSION)
        self.assertEqual([name for name, _ in channel_bindings(server)], ["tls-exporter"])

    def test_nothing_before_the_handshake(self) -> None:
        """A connection without a cipher describes itself as nothing."""
        self.assertEqual(describe(SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)), "")
