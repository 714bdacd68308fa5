"""
TLS for our listeners: certificates, contexts, their reload.

`ServerTLS` loads the certificates and makes OpenSSL connections for every listener, the implicit
ones and those that start TLS later. TLS 1.2 with forward secrecy and authenticated ciphers is the
least; renegotiation and compression are off.

Invariants:
- A reload either replaces everything or changes nothing: a certificate that cannot be used leaves
  the old ones in force and is logged. Sessions keep the context they began with.
- The name a client asks for (SNI) is looked up among the names of our certificates; nothing is
  made or kept for it. An unknown name gets the first certificate.
- A client that names protocols (ALPN) of which none is spoken on the port is refused
  (RFC 7301 3.2), so that a browser or another protocol's client cannot be led here.
- Session tickets are protected by keys that live as long as a context: reload once a day.
- A handshake that is not done after `HANDSHAKE_TIMEOUT` ends with its connection.

Errors: ConfigError from `load`; `reload` logs instead. Without a certificate in the configuration
a self-signed one is made and kept in the data directory.
"""

from __future__ import annotations

import datetime
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IDelayedCall, IOpenSSLServerConnectionCreator, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from mailhost.config.sections import CertificateFiles
from mailhost.errors import ConfigError
from mailhost.files import FileOperations

HANDSHAKE_TIMEOUT = 30.0
"""Seconds from the first octet of TLS to the end of the handshake."""

_SWEEP_INTERVAL = 5.0

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of TLS 1.3 are all good."""

# Older type stubs do not know it.
_NO_RENEGOTIATION: int = SSL.OP_NO_RENEGOTIATION  # type: ignore[attr-defined, unused-ignore]

ALPN: Mapping[str, tuple[bytes, ...]] = MappingProxyType(
    {
        # Not registered, but mail servers offer them.
        "smtp": (b"smtp", b"esmtp"),
        "submission": (b"smtp", b"esmtp"),
        "imap": (b"imap",),
        "pop3": (b"pop3",),
    }
)
"""The protocol names (RFC 7301) that a listener of each protocol answers to."""

SELF_SIGNED_DAYS = 820
"""Some clients refuse certificates that are valid for more than 825 days."""
_RENEW_DAYS = 30
_WARN_DAYS = 14


class ProtocolNotSpoken(SSL.Error):
    """The client wants a protocol that this port does not speak."""


@dataclass(frozen=True, slots=True)
class Credential:
    """
    A certificate chain with its key.

    Args:
        names: the DNS names it is for, lower-case, as they are in SNI.
        expires: Unix time.
    """

    chain: tuple[x509.Certificate, ...]
    key: Any
    names: tuple[str, ...]
    expires: float


def read_credential(files: CertificateFiles, path: str) -> Credential:
    """
    Read a certificate and its key.

    Args:
        files: where they are.
        path: their place in the configuration, for the error.

    Raises:
        ConfigError: one cannot be read, or they do not belong together.
    """
    chain_text = _read(files.certificate, f"{path}.certificate")
    key_text = _read(files.key, f"{path}.key")
    try:
        chain = tuple(x509.load_pem_x509_certificates(chain_text))
    except ValueError:
        raise ConfigError(
            f"{path}.certificate", f"{files.certificate} holds no certificate in PEM form"
        ) from None
    try:
        key = serialization.load_pem_private_key(key_text, None)
    except TypeError:
        raise ConfigError(
            f"{path}.key", f"{files.key} is protected by a password; store it without one"
        ) from None
    except Exception:  # the parser's errors have many types
        raise ConfigError(f"{path}.key", f"{files.key} holds no private key in PEM form") from None
    if _spki(chain[0].public_key()) != _spki(key.public_key()):
        raise ConfigError(
            f"{path}.key", f"{files.key} is not the key of {files.certificate}; name its own key"
        )
    return Credential(chain, key, _names(chain[0]), chain[0].not_valid_after_utc.timestamp())


def _read(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            where, f"{path} cannot be read ({error.strerror}); check the name and its permissions"
        ) from None


def _spki(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))


class _Contexts:
    """The contexts of one kind of listener, made from one set of credentials."""

    def __init__(self, credentials: Sequence[Credential], alpn: tuple[bytes, ...]) -> None:
        self._alpn = alpn
        contexts = [self._context(credential) for credential in credentials]
        self.default = contexts[0]
        self.by_name: dict[bytes, SSL.Context] = {}
        for credential, context in zip(credentials, contexts, strict=True):
            for name in credential.names:
                self.by_name.setdefault(name.encode("ascii", "replace"), context)

    def _context(self, credential: Credential) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(CIPHERS)
        context.set_options(SSL.OP_NO_COMPRESSION | _NO_RENEGOTIATION)
        # An idle session gives back 34 KB of buffers.
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        # Tickets carry the state; a cache of sessions would only hold memory.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_session_id(b"mailhost " + self._alpn[0])
        first, *others = [crypto.X509.from_cryptography(each) for each in credential.chain]
        context.use_certificate(first)
        for other in others:
            context.add_extra_chain_cert(other)
        context.use_privatekey(crypto.PKey.from_cryptography_key(credential.key))
        context.check_privatekey()
        context.set_tlsext_servername_callback(self._choose)
        context.set_alpn_select_callback(self._select)
        return context

    def _choose(self, connection: SSL.Connection) -> None:
        # RFC 6066 3: the name as A-labels without the last dot.
        name = (connection.get_servername() or b"").lower()
        context = self.by_name.get(name)
        if context is None:
            _, dot, parent = name.partition(b".")
            context = self.by_name.get(b"*." + parent) if dot else None
        if context is not None:
            connection.set_context(context)

    def _select(self, connection: SSL.Connection, offered: list[bytes]) -> bytes:
        for name in offered:
            if name in self._alpn:
                return name
        raise ProtocolNotSpoken([("ssl", "", "no application protocol in common")])


class _Handshakes:
    """Ends connections whose handshake does not come to an end."""

    def __init__(self, clock: IReactorTime) -> None:
        self._log = Logger()
        self._clock = clock
        # Weak, so that a connection that is gone is not kept for its timeout.
        self._started: deque[tuple[float, weakref.ref[Any], weakref.ref[Any]]] = deque()
        self._sweep: IDelayedCall | None = None

    def watch(self, protocol: Any, connection: SSL.Connection) -> None:
        self._started.append(
            (self._clock.seconds(), weakref.ref(protocol), weakref.ref(connection))
        )
        if self._sweep is None:
            self._sweep = self._clock.callLater(_SWEEP_INTERVAL, self._look)

    def stop(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._started.clear()

    def _look(self) -> None:
        due = self._clock.seconds() - HANDSHAKE_TIMEOUT
        while self._started and self._started[0][0] <= due:
            began, protocol_reference, connection_reference = self._started.popleft()
            protocol, connection = protocol_reference(), connection_reference()
            if protocol is None or connection is None:
                continue
            # The peer's Finished message is the last one that we wait for.
            if connection.get_peer_finished() is None and protocol.connected:
                peer = getattr(protocol.transport.getPeer(), "host", "")
                self._log.info(
                    event="tls.handshake.timeout", peer=peer, delay=self._clock.seconds() - began
                )
                protocol.abortConnection()
        self._sweep = self._clock.callLater(_SWEEP_INTERVAL, self._look) if self._started else None


@implementer(IOpenSSLServerConnectionCreator)
class _ConnectionCreator:
    """Makes the connections of one kind of listener."""

    def __init__(self, tls: ServerTLS, alpn: tuple[bytes, ...], handshakes: _Handshakes) -> None:
        self._tls = tls
        self._alpn = alpn
        self._handshakes = handshakes

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Return a new connection in the contexts that are in force now."""
        connection = SSL.Connection(self._tls.contexts(self._alpn).default, None)
        connection.set_accept_state()
        self._handshakes.watch(protocol, connection)
        return connection


class ServerTLS:
    """
    The certificates of the server and what is made of them.

    Args:
        certificates: those of the configuration; the first is for clients that name no host. None
            means a self-signed one.
        hostname: the name in a self-signed certificate.
        directory: where a self-signed certificate is kept; made when needed.
        clock: for handshake timeouts.
        now: returns Unix time.
    """

    log = Logger()

    def __init__(
        self,
        certificates: Sequence[CertificateFiles],
        hostname: str,
        directory: Path,
        clock: IReactorTime,
        *,
        files: FileOperations | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._certificates = tuple(certificates)
        self._hostname = hostname
        self._directory = directory
        self._files = files if files is not None else FileOperations()
        self._now = now
        self._handshakes = _Handshakes(clock)
        self._credentials: tuple[Credential, ...] = ()
        self._contexts: dict[tuple[bytes, ...], _Contexts] = {}

    def load(self) -> None:
        """
        Read the certificates for the first time; call it before any listener opens.

        Blocks for a few files. When the server starts as root, certificates of the configuration
        are loaded before privileges are given up, a self-signed one after.

        Raises:
            ConfigError: one cannot be used.
        """
        self._adopt(self._read_all(self._certificates))

    def reload(self, certificates: Sequence[CertificateFiles] | None = None) -> bool:
        """
        Read the certificates again, with new session ticket keys.

        Args:
            certificates: the new list of the configuration, None for the one in force.

        Returns:
            Whether it was done; otherwise the old ones stay in force and the reason is logged.
        """
        wanted = self._certificates if certificates is None else tuple(certificates)
        try:
            credentials = self._read_all(wanted)
            self._adopt(credentials)
        except ConfigError as error:
            self.log.error(
                event="tls.certificates.rejected", path=error.path, problem=error.problem
            )
            return False
        self._certificates = wanted
        return True

    def creator(self, protocol: str) -> _ConnectionCreator:
        """Return what `startTLS` and `TLSMemoryBIOFactory` take, for a protocol of `ALPN`."""
        return _ConnectionCreator(self, ALPN[protocol], self._handshakes)

    def contexts(self, alpn: tuple[bytes, ...]) -> _Contexts:
        """Return the contexts in force for listeners with those protocol names."""
        contexts = self._contexts.get(alpn)
        if contexts is None:
            contexts = self._contexts[alpn] = _Contexts(self._credentials, alpn)
        return contexts

    def stop(self) -> None:
        """Watch no handshake any longer."""
        self._handshakes.stop()

    def _read_all(self, certificates: tuple[CertificateFiles, ...]) -> tuple[Credential, ...]:
        if certificates:
            return tuple(
                read_credential(files, f"certificates[{index}]")
                for index, files in enumerate(certificates)
            )
        return (self._self_signed(),)

    def _self_signed(self) -> Credential:
        try:
            path = self_signed(self._directory, self._hostname, self._now(), self._files)
        except OSError as error:
            raise ConfigError(
                "data_directory",
                f"no certificate can be kept in {self._directory} ({error.strerror}); check its "
                "owner and permissions",
            ) from None
        credential = read_credential(CertificateFiles(certificate=path, key=path), "certificates")
        self.log.info(
            event="tls.certificate.self_signed",
            hostname=self._hostname,
            expires=_date(credential.expires),
        )
        return credential

    def _adopt(self, credentials: tuple[Credential, ...]) -> None:
        try:
            contexts = {
                alpn: _Contexts(credentials, alpn) for alpn in self._contexts or {ALPN["smtp"]}
            }
        except SSL.Error:
            raise ConfigError(
                "certificates", "a certificate or key is too weak for TLS; renew it"
            ) from None
        self._credentials = credentials
        self._contexts = contexts
        for credential in credentials:
            soon = credential.expires < self._now() + _WARN_DAYS * 86400
            names, expires = credential.names, _date(credential.expires)
            if soon:
                self.log.warn(event="tls.certificates.expiring", names=names, expires=expires)
            else:
                self.log.info(event="tls.certificates.loaded", names=names, expires=expires)


def self_signed(directory: Path, hostname: str, now: float, files: FileOperations) -> Path:
    """
    Return the file with a self-signed certificate and its key, made when there is no good one.

    Args:
        directory: where it is kept, mode 0700, as ``self-signed.pem``, mode 0600.
        hostname: must be in it; ``localhost`` and the loopback addresses always are.
        now: Unix time; it is renewed a month before it ends.
        files: does the file operations.

    Raises:
        OSError: the file cannot be written.
    """
    files.make_directory(directory)
    path = directory / "self-signed.pem"
    if _still_good(path, hostname, now):
        return path
    temporary = directory / f"self-signed.{os.getpid()}.tmp"
    descriptor = files.rewrite(temporary)
    try:
        files.write(descriptor, [_make_self_signed(hostname, now)])
        files.sync_data(descriptor)
    finally:
        files.close(descriptor)
    files.rename(temporary, path)
    return path


def _still_good(path: Path, hostname: str, now: float) -> bool:
    try:
        credential = read_credential(CertificateFiles(certificate=path, key=path), "")
    except ConfigError:
        return False
    return hostname in credential.names and credential.expires > now + _RENEW_DAYS * 86400


def _make_self_signed(hostname: str, now: float) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    # RFC 5280: a common name has at most 64 characters; clients look at the other names only.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    begin = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
    names: list[x509.GeneralName] = [
        x509.DNSName(each) for each in dict.fromkeys((hostname, "localhost"))
    ]
    names += [x509.IPAddress(ip_address(each)) for each in ("127.0.0.1", "::1")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A client's clock may be a little behind.
        .not_valid_before(begin - datetime.timedelta(hours=1))
        .not_valid_after(begin + datetime.timedelta(days=SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
