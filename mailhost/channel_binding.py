"""
What SASL and the logs want to know of a TLS connection.

The functions take the pyOpenSSL ``Connection`` that a Twisted transport gives as ``getHandle()``
after the handshake, by its methods alone, so that SMTP, IMAP and POP3 share them without knowing
of TLS. Each asks the connection anew; callers keep the answers.
"""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

# RFC 9266 2: label, no context, 32 octets.
_EXPORTER_LABEL = b"EXPORTER-Channel-Binding"
_EXPORTER_LENGTH = 32


def describe(connection: Any) -> str:
    """Return protocol version and cipher, such as ``TLSv1.3 TLS_AES_256_GCM_SHA384``."""
    cipher = connection.get_cipher_name()
    return f"{connection.get_protocol_version_name()} {cipher}" if cipher else ""


def channel_bindings(connection: Any) -> tuple[tuple[str, bytes], ...]:
    """
    Return the channel bindings of a connection where we are the server, by type.

    Args:
        connection: its handshake is complete.

    Returns:
        ``tls-exporter`` with TLS 1.3 (RFC 9266) and ``tls-server-end-point`` (RFC 5929 4) when
        our certificate's signature names a hash.
    """
    bindings: list[tuple[str, bytes]] = []
    # RFC 9266 3: before TLS 1.3 the value is unique only with the extended master secret, which
    # cannot be asked for here.
    if connection.get_protocol_version_name() == "TLSv1.3":
        exported = connection.export_keying_material(_EXPORTER_LABEL, _EXPORTER_LENGTH, b"")
        bindings.append(("tls-exporter", bytes(exported)))
    certificate = connection.get_certificate()
    if certificate is not None:
        digest = _end_point(certificate.to_cryptography())
        if digest:
            bindings.append(("tls-server-end-point", digest))
    return tuple(bindings)


def _end_point(certificate: Any) -> bytes:
    # RFC 5929 4.1: the signature's own hash, SHA-256 in place of MD5 and SHA-1; undefined for
    # signatures without a separate hash (Ed25519).
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None:
        return b""
    if algorithm.name in ("md5", "sha1"):
        algorithm = hashes.SHA256()
    digest = hashes.Hash(algorithm)
    digest.update(certificate.public_bytes(Encoding.DER))
    return digest.finalize()
