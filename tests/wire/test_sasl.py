"""SASL mechanisms, both sides: RFC examples, each other, a foreign implementation, any octets."""

from __future__ import annotations

from base64 import b64decode, b64encode
from unittest import SkipTest

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import SyntaxFault
from mailhost.wire import sasl
from mailhost.wire.saslprep import saslprep

SALT = b"0123456789abcdef"
PASSWORD = "correct horse, battery = staple"
VERIFIER = sasl.scram_verifier(PASSWORD, SALT, sasl.MIN_ITERATIONS)
BINDINGS = {"tls-exporter": b"E" * 32, "tls-server-end-point": b"P" * 32}


def converse(
    client: sasl.ClientMechanism,
    server: sasl.ServerMechanism,
    verifier: sasl.SCRAMVerifier = VERIFIER,
    *,
    initial: bool = True,
) -> tuple[sasl.Step, list[bytes]]:
    """Play both sides until the server has an outcome; also what the client said."""
    said = []
    data = client.initial() if initial else None
    for _ in range(6):
        said.append(data or b"")
        step = server.respond(data)
        if isinstance(step, sasl.AskVerifier):
            assert isinstance(server, sasl.SCRAMServer)
            step = server.verify_against(verifier)
        if not isinstance(step, sasl.Say):
            return step, said
        data = client.respond(step.data)
    raise AssertionError("the exchange does not end")


def scram(name: bytes = b"SCRAM-SHA-256", **bindings: bytes) -> sasl.SCRAMServer:
    """A server side for the mechanism."""
    server = sasl.server_mechanism(name, bindings)
    assert isinstance(server, sasl.SCRAMServer)
    return server


def client(name: bytes, user: str = "ann", password: str = PASSWORD, **options):
    """A client side for the mechanism."""
    mechanism = sasl.client_mechanism(name, user, password, **options)
    assert mechanism is not None
    return mechanism


class PlainTests(SynchronousTestCase):
    """PLAIN and LOGIN."""

    def test_rfc_4616_examples(self) -> None:
        """The examples of RFC 4616 4 are understood."""
        server = sasl.PlainServer()
        self.assertEqual(
            server.respond(b"\0tim\0tanstaaftanstaaf"),
            sasl.AskPassword("tim", "", "tanstaaftanstaaf"),
        )
        self.assertEqual(
            sasl.PlainServer().respond(b"Ursel\0Kurt\0xipj3plmq"),
            sasl.AskPassword("Kurt", "Ursel", "xipj3plmq"),
        )

    def test_without_initial_response_an_empty_challenge_comes_first(self) -> None:
        """A client that waits is asked with an empty challenge."""
        for name in (b"PLAIN", b"LOGIN"):
            server = sasl.server_mechanism(name, {})
            assert server is not None
            step, _ = converse(client(name), server, initial=False)
            self.assertEqual(step, sasl.AskPassword("ann", "", PASSWORD))

    def test_login_takes_the_name_as_initial_response(self) -> None:
        """LOGIN with the name sent at once asks for the password only."""
        server = sasl.LoginServer()
        self.assertEqual(server.respond(b"ann"), sasl.Say(b"Password:"))
        self.assertEqual(server.respond(b"pw"), sasl.AskPassword("ann", "", "pw"))

    def test_malformed_plain(self) -> None:
        """Missing parts, too many parts, foreign octets and excess are malformed."""
        for message in (
            b"",
            b"\0",
            b"\0\0",
            b"\0ann\0",
            b"\0\0pw",
            b"ann\0pw",
            b"\0ann\0pw\0",
            b"\0ann\0p\0w",
            b"\0\xff\0pw",
            b"\0ann\0\xff\xfe",
            b"\0ann\0" + b"x" * 1025,
            b"\0ann\0" + b"x" * 1_000_000,
        ):
            self.assertIsInstance(sasl.PlainServer().respond(message), sasl.Malformed, message[:20])

    def test_malformed_login(self) -> None:
        """An empty, over-long or non-UTF-8 name is malformed."""
        for message in (b"", b"x" * 1025, b"\xff", b"a\0b"):
            self.assertIsInstance(sasl.LoginServer().respond(message), sasl.Malformed)

    def test_questions_do_not_show_the_password(self) -> None:
        """What could be logged by accident has no password in it."""
        step = sasl.PlainServer().respond(b"\0tim\0tanstaaftanstaaf")
        self.assertNotIn("tanstaaf", repr(step))
        self.assertNotIn("stored", repr(VERIFIER))

    def test_client_refuses_what_plain_cannot_carry(self) -> None:
        """A NUL in the password would shift the fields of the message."""
        with self.assertRaises(SyntaxFault):
            sasl.client_mechanism(b"PLAIN", "ann", "a\0b")

    def test_client_answers_only_its_two_questions(self) -> None:
        """A third LOGIN challenge, or a PLAIN challenge with content, is not answered."""
        login = client(b"LOGIN")
        login.respond(b"Username:")
        login.respond(b"Password:")
        with self.assertRaises(SyntaxFault):
            login.respond(b"More:")
        with self.assertRaises(SyntaxFault):
            client(b"PLAIN").respond(b"x")


class SCRAMTests(SynchronousTestCase):
    """SCRAM-SHA-256 and -PLUS."""

    def test_rfc_7677_example(self) -> None:
        """Both sides say octet for octet what RFC 7677 3 shows."""
        ours = client(b"SCRAM-SHA-256", "user", "pencil", nonce=lambda: b"rOprNGfwEbeRWgbNEkqO")
        server = sasl.SCRAMServer("sha256", {}, False, lambda: b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
        first = ours.initial()
        assert first is not None
        self.assertEqual(first, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
        self.assertEqual(server.respond(first), sasl.AskVerifier("user", "", "sha256"))
        salt = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
        challenge = server.verify_against(sasl.scram_verifier("pencil", salt, 4096))
        self.assertEqual(
            challenge.data,
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        )
        final = ours.respond(challenge.data)
        self.assertEqual(
            final,
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        )
        self.assertFalse(ours.satisfied)
        outcome = server.respond(final)
        self.assertEqual(
            outcome,
            sasl.Proven("user", "", b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
        )
        assert isinstance(outcome, sasl.Proven) and outcome.final is not None
        self.assertEqual(ours.respond(outcome.final), b"")
        self.assertTrue(ours.satisfied)

    def test_right_and_wrong_password(self) -> None:
        """The proof of the right password is taken, any other is not."""
        step, said = converse(client(b"SCRAM-SHA-256"), scram())
        self.assertIsInstance(step, sasl.Proven)
        self.assertFalse(any(PASSWORD.encode() in message for message in said))
        step, _ = converse(client(b"SCRAM-SHA-256", password="guess"), scram())
        self.assertEqual(step, sasl.Wrong())

    def test_without_initial_response(self) -> None:
        """A client that waits for the server's turn still gets through."""
        step, _ = converse(client(b"SCRAM-SHA-256"), scram(), initial=False)
        self.assertIsInstance(step, sasl.Proven)

    def test_names_with_commas_and_equal_signs(self) -> None:
        """A comma or equals sign in a name survives its escape."""
        step, said = converse(client(b"SCRAM-SHA-256", "a=b,c"), scram())
        assert isinstance(step, sasl.Proven)
        self.assertEqual(step.user, "a=b,c")
        self.assertIn(b"n=a=3Db=2Cc,", said[0])

    def test_channel_binding(self) -> None:
        """Each binding type is taken with its own octets, and refused with any other."""
        for binding in BINDINGS.items():
            step, _ = converse(
                client(b"SCRAM-SHA-256-PLUS", channel_binding=binding),
                scram(b"SCRAM-SHA-256-PLUS", **BINDINGS),
            )
            self.assertIsInstance(step, sasl.Proven)
            step, _ = converse(
                client(b"SCRAM-SHA-256-PLUS", channel_binding=(binding[0], b"other octets")),
                scram(b"SCRAM-SHA-256-PLUS", **BINDINGS),
            )
            self.assertEqual(step, sasl.Wrong())

    def test_unknown_binding_type(self) -> None:
        """A binding type that was not offered is malformed."""
        step, _ = converse(
            client(b"SCRAM-SHA-256-PLUS", channel_binding=("tls-unique", b"x")),
            scram(b"SCRAM-SHA-256-PLUS", **BINDINGS),
        )
        self.assertIsInstance(step, sasl.Malformed)

    def test_downgrade_is_noticed(self) -> None:
        """``y`` is refused when -PLUS was offered (RFC 5802 6), taken when it was not."""
        able = {"channel_binding": ("tls-exporter", b"E" * 32)}
        step, said = converse(client(b"SCRAM-SHA-256", **able), scram(**BINDINGS))
        self.assertTrue(said[0].startswith(b"y,,"))
        self.assertEqual(step, sasl.Wrong())
        step, _ = converse(client(b"SCRAM-SHA-256", **able), scram())
        self.assertIsInstance(step, sasl.Proven)
        step, _ = converse(client(b"SCRAM-SHA-256"), scram(**BINDINGS))
        self.assertIsInstance(step, sasl.Proven)

    def test_flag_must_fit_the_mechanism(self) -> None:
        """-PLUS without ``p=``, and ``p=`` without -PLUS, are malformed."""
        self.assertIsInstance(
            scram(b"SCRAM-SHA-256-PLUS", **BINDINGS).respond(b"n,,n=ann,r=abc"), sasl.Malformed
        )
        self.assertIsInstance(scram().respond(b"p=tls-exporter,,n=ann,r=abc"), sasl.Malformed)

    def test_authorization_identity_is_reported(self) -> None:
        """``a=`` reaches whoever decides about it."""
        self.assertEqual(
            scram().respond(b"n,a=bob,n=ann,r=abc"), sasl.AskVerifier("ann", "bob", "sha256")
        )

    def test_malformed_first_messages(self) -> None:
        """Each break of the grammar ends the exchange."""
        for message in (
            b"",
            b"n",
            b"n,,",
            b"n,,n=ann",
            b"n,,n=,r=abc",
            b"n,,n=ann,r=",
            b"n,,n=a=b,r=abc",
            b"n,,n=\xff,r=abc",
            b"n,,m=x,n=ann,r=abc",
            b"n,,r=abc,n=ann",
            b"x,,n=ann,r=abc",
            b"n,,n=ann,r=a b",
            b"n,,n=ann,r=" + b"a" * 600,
            b"n,,n=" + b"a" * 1_000_000 + b",r=abc",
        ):
            self.assertIsInstance(scram().respond(message), sasl.Malformed, message[:30])

    def test_malformed_final_messages(self) -> None:
        """A foreign nonce, a short proof, bad base64 or the first message again are refused."""
        for change in (
            lambda final, nonce: final.replace(nonce, b"x" + nonce[1:]),
            lambda final, nonce: final.replace(nonce, nonce + b"x"),
            lambda final, nonce: final[: final.index(b",p=")] + b",p=AAAA",
            lambda final, nonce: final[: final.index(b",p=")] + b",p=A",
            lambda final, nonce: final[: final.index(b",p=")],
            lambda final, nonce: b"n,,n=ann,r=abc",
            lambda final, nonce: b"",
        ):
            ours, server = client(b"SCRAM-SHA-256"), scram()
            first = ours.initial()
            assert first is not None
            server.respond(first)
            challenge = server.verify_against(VERIFIER).data
            nonce = challenge[2 : challenge.index(b",")]
            final = change(ours.respond(challenge), nonce)
            self.assertIsInstance(server.respond(final), sasl.Malformed)

    def test_one_attempt_only(self) -> None:
        """After an outcome nothing more is taken, so a proof cannot be tried twice."""
        ours, server = client(b"SCRAM-SHA-256", password="guess"), scram()
        server.respond(ours.initial())
        final = ours.respond(server.verify_against(VERIFIER).data)
        self.assertEqual(server.respond(final), sasl.Wrong())
        self.assertIsInstance(server.respond(final), sasl.Malformed)
        self.assertIsInstance(server.respond(None), sasl.Malformed)

    def test_client_demands_the_server_signature(self) -> None:
        """A server that does not know the password cannot satisfy the client."""
        ours, server = client(b"SCRAM-SHA-256"), scram()
        server.respond(ours.initial())
        ours.respond(server.verify_against(VERIFIER).data)
        for final in (b"v=" + b64encode(b"\0" * 32), b"e=other-error", b"", b"v="):
            with self.assertRaises(SyntaxFault):
                ours.respond(final)
        self.assertFalse(ours.satisfied)

    def test_client_limits_the_work(self) -> None:
        """Too few iterations are unsafe and too many an attack; neither is answered."""
        for count in (b"1", b"4095", b"1000001", b"9999999999", b"99999999999", b"-1", b"0"):
            ours = client(b"SCRAM-SHA-256", nonce=lambda: b"abc")
            ours.initial()
            with self.assertRaises(SyntaxFault):
                ours.respond(b"r=abcdef,s=" + b64encode(SALT) + b",i=" + count)

    def test_client_demands_its_own_nonce(self) -> None:
        """A nonce that is not ours with something added is a replay."""
        for nonce in (b"abc", b"xabc", b"ab"):
            ours = client(b"SCRAM-SHA-256", nonce=lambda: b"abc")
            ours.initial()
            with self.assertRaises(SyntaxFault):
                ours.respond(b"r=" + nonce + b",s=" + b64encode(SALT) + b",i=4096")


class ForeignTests(SynchronousTestCase):
    """Against the scramp package, an independent implementation."""

    def setUp(self) -> None:
        try:
            import scramp
        except ImportError:
            raise SkipTest("scramp is not installed") from None
        self.scramp = scramp

    def test_our_client_with_a_foreign_server(self) -> None:
        """The foreign server takes our client's proof, with and without channel binding."""
        for binding in (None, ("tls-server-end-point", b"P" * 32)):
            name = "SCRAM-SHA-256-PLUS" if binding else "SCRAM-SHA-256"
            mechanism = self.scramp.ScramMechanism(name)
            record = mechanism.make_auth_info(PASSWORD, iteration_count=4096)
            server = mechanism.make_server(lambda user, r=record: r, channel_binding=binding)
            ours = client(name.encode(), channel_binding=binding)
            server.set_client_first((ours.initial() or b"").decode())
            server.set_client_final(ours.respond(server.get_server_first().encode()).decode())
            ours.respond(server.get_server_final().encode())
            self.assertTrue(ours.satisfied)

    def test_a_foreign_client_with_our_server(self) -> None:
        """Our server takes the foreign client's proof, and the client our signature."""
        for binding in (None, ("tls-server-end-point", b"P" * 32)):
            name = "SCRAM-SHA-256-PLUS" if binding else "SCRAM-SHA-256"
            theirs = self.scramp.ScramClient([name], "ann", PASSWORD, channel_binding=binding)
            server = scram(name.encode(), **(dict([binding]) if binding else {}))
            server.respond(theirs.get_client_first().encode())
            theirs.set_server_first(server.verify_against(VERIFIER).data.decode())
            step = server.respond(theirs.get_client_final().encode())
            assert isinstance(step, sasl.Proven) and step.final is not None
            theirs.set_server_final(step.final.decode())

    def test_verifiers_are_the_same(self) -> None:
        """Stored key and server key are those another implementation computes."""
        for password in (PASSWORD, "I\u00adX", "\u00aa", "Pa\u00dfwort\u00a0\u2168"):
            mechanism = self.scramp.ScramMechanism("SCRAM-SHA-256")
            record = mechanism.make_auth_info(password, iteration_count=4096, salt=SALT)
            ours = sasl.scram_verifier(password, SALT, 4096)
            self.assertEqual((ours.stored_key, ours.server_key), (record[1], record[2]))


class AnyInputTests(SynchronousTestCase):
    """Nothing a peer sends makes a mechanism raise what it should not."""

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from(sorted(sasl.SERVER_MECHANISMS)), st.lists(st.binary(max_size=80)))
    def test_server_side(self, name: bytes, messages: list[bytes]) -> None:
        """Any octets give a step."""
        server = sasl.server_mechanism(name, BINDINGS)
        assert server is not None
        for message in messages:
            step = server.respond(message)
            if isinstance(step, sasl.AskVerifier):
                assert isinstance(server, sasl.SCRAMServer)
                server.verify_against(VERIFIER)

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from([b"PLAIN", b"LOGIN", b"SCRAM-SHA-256"]), st.lists(st.binary()))
    def test_client_side(self, name: bytes, challenges: list[bytes]) -> None:
        """Any challenge gives an answer or a SyntaxFault."""
        ours = client(name)
        ours.initial()
        for challenge in challenges:
            try:
                ours.respond(challenge)
            except SyntaxFault:
                return

    @settings(max_examples=100, deadline=None)
    @given(st.text(min_size=1, max_size=30))
    def test_any_name_survives_scram(self, name: str) -> None:
        """What SASLprep lets through arrives as SASLprep made it."""
        try:
            prepared = saslprep(name)
        except SyntaxFault:
            return
        step = scram().respond(client(b"SCRAM-SHA-256", name).initial())
        assert isinstance(step, sasl.AskVerifier)
        self.assertEqual(step.user, prepared)


class ChoiceTests(SynchronousTestCase):
    """Which mechanism a client takes."""

    def test_best_first(self) -> None:
        """The strongest offered mechanism wins, whatever its place and case."""
        offered = [b"login", b"plain", b"scram-sha-256", b"SCRAM-SHA-256-PLUS", b"XOAUTH2"]
        choose = sasl.choose_client_mechanism
        self.assertEqual(choose(offered), b"SCRAM-SHA-256")
        self.assertEqual(choose(offered, can_bind=True), b"SCRAM-SHA-256-PLUS")
        self.assertEqual(choose([b"LOGIN", b"PLAIN"]), b"PLAIN")
        self.assertIsNone(choose([b"LOGIN", b"PLAIN"], protected=False))
        self.assertEqual(choose(offered, protected=False), b"SCRAM-SHA-256")
        self.assertIsNone(choose([b"XOAUTH2"]))

    def test_unknown_names(self) -> None:
        """There is no exchange for what we do not have, nor -PLUS without a binding."""
        self.assertIsNone(sasl.server_mechanism(b"CRAM-MD5", {}))
        self.assertIsNone(sasl.client_mechanism(b"CRAM-MD5", "a", "b"))
        self.assertIsNone(sasl.client_mechanism(b"SCRAM-SHA-256-PLUS", "a", "b"))


class PreparationTests(SynchronousTestCase):
    """SASLprep."""

    def test_rfc_4013_examples(self) -> None:
        """The examples of RFC 4013 3."""
        self.assertEqual(saslprep("I\u00adX"), "IX")
        self.assertEqual(saslprep("user"), "user")
        self.assertEqual(saslprep("USER"), "USER")
        self.assertEqual(saslprep("\u00aa"), "a")
        self.assertEqual(saslprep("\u2168"), "IX")
        for refused in ("\u0007", "\u0627\u0031", "", "\u00ad"):
            with self.assertRaises(SyntaxFault):
                saslprep(refused)
