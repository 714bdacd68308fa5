"""What TLS a next hop must offer, and the TLS that we start with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion, platformTrust
from zope.interface import implementer

from mailhost.interfaces.network import ITLSPolicy, TLSDemand


@implementer(ITLSPolicy)
class TLSPolicy:
    """
    A demand for everyone, with exceptions.

    Args:
        default: for next hops that the table does not name.
        table: demands by next hop (a domain) or by host; the next hop counts first.
    """

    def __init__(
        self,
        default: TLSDemand = TLSDemand.OPPORTUNISTIC,
        table: Mapping[str, TLSDemand] | None = None,
    ) -> None:
        self._default = default
        self._table = dict(table or {})

    def demand(self, next_hop: str, host: str) -> TLSDemand:
        """Return the demand for a host of a next hop."""
        return self._table.get(next_hop) or self._table.get(host) or self._default


@implementer(IOpenSSLClientConnectionCreator)
class ClientTLS:
    """
    The TLS of one connection to a host.

    Args:
        context: shared by all connections of its kind.
        host: for SNI, and for the certificate if `verified`.
    """

    def __init__(self, context: SSL.Context, host: str, verified: bool) -> None:
        self._context = context
        self._host = host.strip("[]").removeprefix("IPv6:")
        self._verified = verified

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Return a connection at its start, with SNI for a host that has a name (RFC 6066 3)."""
        connection = SSL.Connection(self._context, None)
        if not self._is_address():
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        connection.set_connect_state()
        return connection

    def problem(self, connection: SSL.Connection) -> str:
        """
        Return what is wrong with the peer's certificate for the host's name, or nothing.

        Its chain was checked during the handshake. Asked when that is complete.
        """
        if not self._verified:
            return ""
        verify = verify_ip_address if self._is_address() else verify_hostname
        try:
            verify(connection, self._host)
        except (VerificationError, CertificateError):
            return f"it is not for {self._host}"
        return ""

    def _is_address(self) -> bool:
        try:
            ip_address(self._host)
        except ValueError:
            return False
        return True


class ClientContexts:
    """
    The OpenSSL contexts of outgoing connections: one that checks certificates, one that does not.

    Args:
        trusted: texts with certificates in PEM form that are trusted beside the system's.

    Raises:
        ValueError: one of the texts holds no certificate, or a broken one.
    """

    def __init__(self, trusted: Iterable[bytes] = ()) -> None:
        certificates = [each for pem in trusted for each in load_pem_x509_certificates(pem)]
        # RFC 8996: older versions are no better than clear text, which opportunism may use.
        minimum = TLSVersion.TLSv1_2
        self._verified = CertificateOptions(
            trustRoot=platformTrust(), raiseMinimumTo=minimum
        ).getContext()
        store = self._verified.get_cert_store()
        assert store is not None
        for certificate in certificates:
            store.add_cert(X509.from_cryptography(certificate))
        self._unverified = CertificateOptions(verify=False, raiseMinimumTo=minimum).getContext()

    def tls_for(self, host: str, *, verified: bool) -> ClientTLS:
        """Return what starts TLS with the host."""
        return ClientTLS(self._verified if verified else self._unverified, host, verified)
