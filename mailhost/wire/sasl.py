"""
SASL exchanges, both sides, without sockets and without a credential store (RFC 4422).

The octets here are those of the mechanism: base64 and the protocol's framing are the caller's.

As server: `server_mechanism` gives an object whose `respond` takes the client's message and
returns a `Step`. `Say` is the next challenge. `AskPassword` and `AskVerifier` are questions to
whoever keeps credentials; the answer to the first decides the login, the answer to the second is
given to `SCRAMServer.verify_against`, which returns the next step. `Proven` says that the client
has shown that it knows the secret; whether that identity may log in, and act for the `authzid` it
names, is the caller's decision. `Malformed` and `Wrong` end the exchange. A new mechanism is a new
entry of `SERVER_MECHANISMS`, and a new kind of question if it has one.

As client: `client_mechanism` gives an object with `initial` and `respond`; `satisfied` says
whether a success reported now may be believed, which for SCRAM needs the server's signature.

No input makes these raise anything but `SyntaxFault` (client side; the server side returns
`Malformed`), and input longer than `MAX_MESSAGE` is not looked at.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from mailhost.errors import SyntaxFault
from mailhost.wire.saslprep import saslprep

MAX_MESSAGE = 8192
"""Octets of one decoded message; a 12,288 octet AUTH line holds 9 KB (RFC 4954 4.5.3)."""

MAX_ITEM = 1024
"""Octets of one name or password. RFC 4616 2 asks for 255."""

MIN_ITERATIONS = 4096
"""RFC 7677 4."""

MAX_ITERATIONS = 1_000_000
"""A client refuses to work longer for a server that it does not know yet (about 0.5 s)."""


# --- What the server side answers -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Say:
    """The next challenge for the client."""

    data: bytes


@dataclass(frozen=True, slots=True)
class AskPassword:
    """
    Whether this is the user's password decides the login.

    Args:
        user, authzid: as the client wrote them; authzid is empty when none was given.
    """

    user: str
    authzid: str
    password: str

    def __repr__(self) -> str:
        return f"AskPassword(user={self.user!r})"


@dataclass(frozen=True, slots=True)
class AskVerifier:
    """
    Wanted: the SCRAM verifier of the user, or one that nobody can match if there is no such user.

    Args:
        hash_name: ``sha256``, as `hashlib` names it.
    """

    user: str
    authzid: str
    hash_name: str


@dataclass(frozen=True, slots=True)
class Proven:
    """
    The client knows the user's secret.

    Args:
        final: to be sent with success; None if the mechanism has nothing to add.
    """

    user: str
    authzid: str
    final: bytes | None = None


@dataclass(frozen=True, slots=True)
class Wrong:
    """The proof does not match, or the channel binding shows somebody in the middle."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """The client's message does not follow the mechanism; `expected` is for logs."""

    expected: str


Step: TypeAlias = Say | AskPassword | AskVerifier | Proven | Wrong | Malformed


class ServerMechanism(Protocol):
    """One exchange, as the server."""

    def respond(self, data: bytes | None) -> Step:
        """Take the client's message, or None when it began without an initial response."""
        ...


@dataclass(frozen=True, slots=True)
class SCRAMVerifier:
    """What a server keeps to check a SCRAM proof: not enough to log in with (RFC 5802 3)."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return f"SCRAMVerifier(iterations={self.iterations})"


def scram_verifier(
    password: str, salt: bytes, iterations: int, hash_name: str = "sha256"
) -> SCRAMVerifier:
    """
    Return the verifier of a password. It blocks for as long as the iterations take.

    Raises:
        SyntaxFault: the password has characters that SASLprep prohibits.
    """
    client_key, server_key = _scram_keys(password, salt, iterations, hash_name)
    return SCRAMVerifier(salt, iterations, _digest(hash_name, client_key), server_key)


# --- Shared by both sides ---------------------------------------------------------------------


def _digest(hash_name: str, data: bytes) -> bytes:
    return hashlib.new(hash_name, data).digest()


def _exclusive_or(left: bytes, right: bytes) -> bytes:
    length = len(left)
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(length, "big")


def _scram_keys(password: str, salt: bytes, iterations: int, hash_name: str) -> tuple[bytes, bytes]:
    # RFC 5802 3: SaltedPassword, ClientKey, ServerKey.
    salted = hashlib.pbkdf2_hmac(hash_name, saslprep(password).encode(), salt, iterations)
    return (
        hmac.digest(salted, b"Client Key", hash_name),
        hmac.digest(salted, b"Server Key", hash_name),
    )


def _base64(text: bytes, what: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SyntaxFault(0, f"{what} in base64") from None


def _text(data: bytes, what: str, limit: int = MAX_ITEM) -> str:
    if len(data) > limit or b"\0" in data:
        raise SyntaxFault(0, f"{what} of at most {limit} octets without NUL")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise SyntaxFault(0, f"{what} in UTF-8") from None


def _nonce() -> bytes:
    # 18 random octets make 24 characters without a comma.
    return b64encode(secrets.token_bytes(18))


# --- PLAIN (RFC 4616) -------------------------------------------------------------------------


class PlainServer:
    """PLAIN: ``[authzid] NUL authcid NUL passwd`` (RFC 4616 2)."""

    def respond(self, data: bytes | None) -> Step:
        """Take the one message of the mechanism."""
        if data is None:
            return Say(b"")
        if len(data) > MAX_MESSAGE:
            return Malformed("a shorter message")
        parts = data.split(b"\0")
        if len(parts) != 3 or not parts[1] or not parts[2]:
            return Malformed("[authzid] NUL authcid NUL passwd")
        try:
            authzid, user, password = (_text(part, "a name or password") for part in parts)
        except SyntaxFault as fault:
            return Malformed(fault.expected)
        return AskPassword(user, authzid, password)


class LoginServer:
    """LOGIN, which old clients still speak: user name, then password, each asked for."""

    def __init__(self) -> None:
        self._user: str | None = None

    def respond(self, data: bytes | None) -> Step:
        """Take the user name (which may come as initial response), then the password."""
        if data is None:
            return Say(b"Username:")
        try:
            text = _text(data, "a name or password")
        except SyntaxFault as fault:
            return Malformed(fault.expected)
        if not text:
            return Malformed("a name or password")
        if self._user is None:
            self._user = text
            return Say(b"Password:")
        return AskPassword(self._user, "", text)


# --- SCRAM as server (RFC 5802, RFC 7677) -----------------------------------------------------

# gs2-header = gs2-cbind-flag "," [ authzid ] ","     (RFC 5802 7)
_GS2_HEADER = re.compile(rb"(?:p=(?P<type>[A-Za-z0-9.\-]{1,64})|(?P<flag>[ny])),(?:a=([^,]*))?,")
# client-first-message-bare = username "," nonce ["," extensions]; "m=" is refused.
_FIRST_BARE = re.compile(rb"n=([^,]+),r=([\x21-\x2b\x2d-\x7e]{1,512})(?:,[A-Za-z]=[^,\0]+)*\Z")
# client-final-message = channel-binding "," nonce ["," extensions] "," proof
_CLIENT_FINAL = re.compile(
    rb"(c=([A-Za-z0-9+/=]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,\0]+)*),p=([A-Za-z0-9+/=]+)\Z"
)
# saslname = 1*(value-safe-char / "=2C" / "=3D")
_BARE_EQUALS = re.compile(rb"=(?!2C|3D)")


def _saslname(data: bytes) -> str:
    if _BARE_EQUALS.search(data):
        raise SyntaxFault(0, "=2C or =3D after = in a name")
    return _text(data.replace(b"=2C", b",").replace(b"=3D", b"="), "a name")


class SCRAMServer:
    """
    SCRAM with one hash, with or without channel binding.

    Args:
        channel_bindings: octets by type; when there are any, -PLUS was offered, and a client that
            says it could bind but saw no offer is told of the downgrade by failure (RFC 5802 6).
        plus: the client chose the -PLUS mechanism.
    """

    def __init__(
        self,
        hash_name: str,
        channel_bindings: Mapping[str, bytes],
        plus: bool,
        nonce: Callable[[], bytes] = _nonce,
    ) -> None:
        self._hash_name = hash_name
        self._bindings = channel_bindings
        self._plus = plus
        self._new_nonce = nonce
        self._begun = False
        self._verifier: SCRAMVerifier | None = None
        self._user = self._authzid = ""
        self._binding = b""
        self._client_first = self._server_first = self._full_nonce = b""

    def respond(self, data: bytes | None) -> Step:
        """Take client-first-message, then client-final-message."""
        if data is None:
            return Malformed("one start only") if self._begun else Say(b"")
        if len(data) > MAX_MESSAGE:
            return Malformed("a shorter message")
        try:
            if self._verifier is not None:
                return self._final(data, self._verifier)
            if self._begun:
                return Malformed("no further message")
            self._begun = True
            return self._first(data)
        except SyntaxFault as fault:
            return Malformed(fault.expected)

    def _first(self, data: bytes) -> Step:
        header = _GS2_HEADER.match(data)
        if header is None:
            raise SyntaxFault(0, "a GS2 header")
        bare = _FIRST_BARE.match(data, header.end())
        if bare is None:
            raise SyntaxFault(header.end(), "n=user,r=nonce")
        self._authzid = _saslname(header[3] or b"")
        self._user = _saslname(bare[1])
        binding_type, flag = header["type"], header["flag"]
        if (binding_type is not None) is not self._plus:
            raise SyntaxFault(0, "the channel binding flag that belongs to the mechanism")
        # RFC 5802 6: the client could bind, and was not told that we can.
        if flag == b"y" and self._bindings:
            return Wrong()
        self._binding = header[0]
        if binding_type is not None:
            octets = self._bindings.get(binding_type.decode("ascii"))
            if octets is None:
                raise SyntaxFault(2, "a channel binding type that is offered")
            self._binding += octets
        self._client_first = data[header.end() :]
        self._full_nonce = bare[2] + self._new_nonce()
        return AskVerifier(self._user, self._authzid, self._hash_name)

    def verify_against(self, verifier: SCRAMVerifier) -> Say:
        """Take the answer to `AskVerifier` and return the challenge with salt and count."""
        self._verifier = verifier
        self._server_first = b"r=%b,s=%b,i=%d" % (
            self._full_nonce,
            b64encode(verifier.salt),
            verifier.iterations,
        )
        return Say(self._server_first)

    def _final(self, data: bytes, verifier: SCRAMVerifier) -> Step:
        # One attempt only.
        self._verifier = None
        match = _CLIENT_FINAL.match(data)
        if match is None:
            raise SyntaxFault(0, "c=binding,r=nonce,p=proof")
        without_proof, binding, nonce, proof_text = match.groups()
        proof = _base64(proof_text, "a proof")
        if not hmac.compare_digest(nonce, self._full_nonce):
            raise SyntaxFault(0, "the nonce that was sent")
        if len(proof) != len(verifier.stored_key):
            raise SyntaxFault(0, "a proof of the hash's length")
        bound = hmac.compare_digest(_base64(binding, "a channel binding"), self._binding)
        message = b",".join((self._client_first, self._server_first, without_proof))
        signature = hmac.digest(verifier.stored_key, message, self._hash_name)
        client_key = _exclusive_or(proof, signature)
        known = hmac.compare_digest(_digest(self._hash_name, client_key), verifier.stored_key)
        if not (bound and known):
            return Wrong()
        server_signature = hmac.digest(verifier.server_key, message, self._hash_name)
        return Proven(self._user, self._authzid, b"v=" + b64encode(server_signature))


ServerFactory: TypeAlias = Callable[[Mapping[str, bytes]], ServerMechanism]

SERVER_MECHANISMS: Mapping[bytes, ServerFactory] = {
    b"SCRAM-SHA-256-PLUS": lambda bindings: SCRAMServer("sha256", bindings, True),
    b"SCRAM-SHA-256": lambda bindings: SCRAMServer("sha256", bindings, False),
    b"PLAIN": lambda bindings: PlainServer(),
    b"LOGIN": lambda bindings: LoginServer(),
}
"""Every mechanism of the server side, best first."""


def server_mechanism(name: bytes, channel_bindings: Mapping[str, bytes]) -> ServerMechanism | None:
    """Return a new exchange for an upper-case mechanism name, or None if there is none such."""
    factory = SERVER_MECHANISMS.get(name)
    return None if factory is None else factory(channel_bindings)


# --- As client --------------------------------------------------------------------------------


class ClientMechanism(Protocol):
    """One exchange, as the client."""

    @property
    def satisfied(self) -> bool:
        """Whether success, if the server reports it now, is to be believed."""
        ...

    def initial(self) -> bytes | None:
        """Return the initial response, or None when the server speaks first. Once only."""
        ...

    def respond(self, challenge: bytes) -> bytes:
        """
        Return the answer to a challenge.

        It blocks for as long as a SCRAM server's iteration count asks, up to half a second: call
        it on a thread. Raises SyntaxFault for a challenge that does not follow the mechanism or
        that does not come from a server which knows the password; then abort the exchange.
        """
        ...


class PlainClient:
    """PLAIN as client (RFC 4616)."""

    def __init__(self, user: str, password: str) -> None:
        if "\0" in user + password:
            raise SyntaxFault(0, "a name and a password without NUL")
        self._message = b"\0" + user.encode() + b"\0" + password.encode()
        self.satisfied = True

    def initial(self) -> bytes | None:
        """Return the whole message."""
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        """Return the message to a server that did not take it as initial response."""
        if challenge:
            raise SyntaxFault(0, "an empty challenge")
        return self._message


class LoginClient:
    """LOGIN as client: the name, then the password, whatever the server calls them."""

    def __init__(self, user: str, password: str) -> None:
        self._answers = [password.encode(), user.encode()]
        self.satisfied = True

    def initial(self) -> bytes | None:
        """Return None: not every server takes the name as initial response."""
        return None

    def respond(self, challenge: bytes) -> bytes:
        """Return the name, then the password."""
        if not self._answers:
            raise SyntaxFault(0, "no third challenge")
        return self._answers.pop()


# server-first-message = nonce "," salt "," iteration-count ["," extensions]
_SERVER_FIRST = re.compile(
    rb"r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,9})(?:,[A-Za-z]=[^,\0]+)*\Z"
)
# server-final-message = (server-error / verifier) ["," extensions]
_SERVER_FINAL = re.compile(rb"v=([A-Za-z0-9+/=]+)(?:,[A-Za-z]=[^,\0]+)*\Z")


class SCRAMClient:
    """
    SCRAM as client.

    Args:
        binding: type and octets for -PLUS, else None.
        could_bind: we have a channel binding, but the server did not offer -PLUS (flag ``y``).
    """

    def __init__(
        self,
        hash_name: str,
        user: str,
        password: str,
        binding: tuple[str, bytes] | None,
        could_bind: bool = False,
        nonce: Callable[[], bytes] = _nonce,
    ) -> None:
        self._hash_name = hash_name
        self._password = password
        self._nonce = nonce()
        flag = b"p=" + binding[0].encode("ascii") if binding else b"y" if could_bind else b"n"
        self._header = flag + b",,"
        self._binding = self._header + (binding[1] if binding else b"")
        name = saslprep(user).encode().replace(b"=", b"=3D").replace(b",", b"=2C")
        self._first = b"n=%b,r=%b" % (name, self._nonce)
        self._signature: bytes | None = None
        self._said_first = False
        self.satisfied = False

    def initial(self) -> bytes | None:
        """Return client-first-message."""
        self._said_first = True
        return self._header + self._first

    def respond(self, challenge: bytes) -> bytes:
        """Answer server-first-message with the proof, server-final-message with nothing."""
        if len(challenge) > MAX_MESSAGE:
            raise SyntaxFault(MAX_MESSAGE, "a shorter challenge")
        if not self._said_first and not challenge:
            return self.initial() or b""
        if self.satisfied:
            raise SyntaxFault(0, "no further challenge")
        if self._signature is None:
            return self._proof(challenge)
        match = _SERVER_FINAL.match(challenge)
        if match is None or not hmac.compare_digest(
            _base64(match[1], "a signature"), self._signature
        ):
            raise SyntaxFault(0, "the signature of a server that knows the password")
        self.satisfied = True
        return b""

    def _proof(self, challenge: bytes) -> bytes:
        match = _SERVER_FIRST.match(challenge)
        if match is None:
            raise SyntaxFault(0, "r=nonce,s=salt,i=count")
        nonce, salt, iterations = match[1], _base64(match[2], "a salt"), int(match[3])
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise SyntaxFault(0, "our nonce with the server's added")
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise SyntaxFault(0, f"{MIN_ITERATIONS} to {MAX_ITERATIONS} iterations")
        client_key, server_key = _scram_keys(self._password, salt, iterations, self._hash_name)
        without_proof = b"c=%b,r=%b" % (b64encode(self._binding), nonce)
        message = b",".join((self._first, challenge, without_proof))
        signature = hmac.digest(_digest(self._hash_name, client_key), message, self._hash_name)
        self._signature = hmac.digest(server_key, message, self._hash_name)
        return without_proof + b",p=" + b64encode(_exclusive_or(client_key, signature))


CLIENT_MECHANISMS: tuple[bytes, ...] = (
    b"SCRAM-SHA-256-PLUS",
    b"SCRAM-SHA-256",
    b"PLAIN",
    b"LOGIN",
)
"""Every mechanism of the client side, best first."""


def client_mechanism(
    name: bytes,
    user: str,
    password: str,
    *,
    channel_binding: tuple[str, bytes] | None = None,
    nonce: Callable[[], bytes] = _nonce,
) -> ClientMechanism | None:
    """
    Return a new exchange as client, or None for a mechanism we do not have.

    The name is upper-case. `channel_binding` is type and octets of the TLS connection, when known;
    given to plain SCRAM-SHA-256 it says that the server did not offer -PLUS, so that the server
    notices when somebody in the middle removed the offer.

    Raises:
        SyntaxFault: the mechanism cannot carry the user name or password.
    """
    if name == b"PLAIN":
        return PlainClient(user, password)
    if name == b"LOGIN":
        return LoginClient(user, password)
    if name == b"SCRAM-SHA-256":
        bound = channel_binding is not None
        return SCRAMClient("sha256", user, password, None, could_bind=bound, nonce=nonce)
    if name == b"SCRAM-SHA-256-PLUS" and channel_binding is not None:
        return SCRAMClient("sha256", user, password, channel_binding, nonce=nonce)
    return None


def choose_client_mechanism(
    offered: Sequence[bytes], *, can_bind: bool = False, protected: bool = True
) -> bytes | None:
    """
    Return the best mechanism that the server offers and we have, or None.

    -PLUS is chosen only if we `can_bind`, that is, know a channel binding. On a connection that is
    not `protected` by TLS no password is sent, only SCRAM proofs.
    """
    names = {name.upper() for name in offered}
    for name in CLIENT_MECHANISMS:
        if name not in names or (name.endswith(b"-PLUS") and not can_bind):
            continue
        if protected or name.startswith(b"SCRAM-"):
            return name
    return None
