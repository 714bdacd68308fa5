"""The relay's parts from the configuration."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.loading import parse
from mailhost.config.sections import Config, NameServer, Relay, Retry
from mailhost.errors import ConfigError
from mailhost.relay.connections import DEAD_TIME
from mailhost.relay.tls_policy import ClientContexts
from mailhost.reply import Action, DeliveryStatus
from mailhost.service.outbound import build_agent, build_contexts, build_router
from mailhost.service.threads import Workers
from mailhost.units import Seconds
from tests.smtp.client_network import certificate, certificate_files

CONFIG = Config(hostname="mx.here.example")


def handshake(contexts: ClientContexts, host: str) -> str:
    """Shake hands with the host's own server and return why the client would not, or nothing."""
    options, _ = certificate(host)
    tls = contexts.tls_for(host, verified=True)
    client = tls.clientConnectionForTLS(None)
    server = SSL.Connection(options.getContext(), None)
    server.set_accept_state()
    for _ in range(10):
        for here, there in ((client, server), (server, client)):
            try:
                here.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                return str(error)
            try:
                there.bio_write(here.bio_read(65536))
            except SSL.WantReadError:
                continue
    return tls.problem(client)


class TrustTests(SynchronousTestCase):
    """``relay.trusted_certificates``."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.one, _ = certificate_files("one.example", self.directory)
        self.two, _ = certificate_files("two.example", self.directory)

    def contexts(self, *paths: Path) -> ClientContexts:
        return build_contexts(replace(CONFIG, relay=Relay(trusted_certificates=paths)))

    def test_only_what_is_named_is_trusted(self) -> None:
        """A certificate of somebody's own making counts if the file names it."""
        trusting = self.contexts(self.one)
        self.assertEqual(handshake(trusting, "one.example"), "")
        self.assertIn("verify failed", handshake(trusting, "two.example"))
        self.assertIn("verify failed", handshake(self.contexts(), "one.example"))

    def test_a_file_may_hold_several(self) -> None:
        """A bundle of authorities is one file."""
        bundle = self.directory / "bundle.pem"
        bundle.write_bytes(self.one.read_bytes() + b"\nwords between\n" + self.two.read_bytes())
        trusting = self.contexts(bundle)
        self.assertEqual(handshake(trusting, "one.example"), "")
        self.assertEqual(handshake(trusting, "two.example"), "")

    def test_they_stand_beside_those_of_the_system(self) -> None:
        """Naming one takes none away."""
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = str(self.two)
        try:
            trusting = self.contexts(self.one)
        finally:
            if before is None:
                del os.environ["SSL_CERT_FILE"]
            else:
                os.environ["SSL_CERT_FILE"] = before
        for host in ("one.example", "two.example"):
            self.assertEqual(handshake(trusting, host), "")

    def test_what_cannot_be_used_is_named(self) -> None:
        """The error says which entry, which file and why."""
        empty = self.directory / "empty.pem"
        empty.write_bytes(b"")
        for path, reason in ((empty, "holds no certificate"), (self.directory / "no", "read")):
            with self.assertRaises(ConfigError) as caught:
                self.contexts(self.one, path)
            self.assertIn("relay.trusted_certificates[1]", str(caught.exception))
            self.assertIn(str(path), str(caught.exception))
            self.assertIn(reason, str(caught.exception))

    def test_file_names_count_from_the_configuration(self) -> None:
        """As all file names in it."""
        text = 'version = 1\nhostname = "a.example"\n[relay]\ntrusted_certificates = ["ca.pem"]\n'
        self.assertEqual(
            parse(text, Path("/etc/mailhost")).relay.trusted_certificates,
            (Path("/etc/mailhost/ca.pem"),),
        )


class DeadTimeTests(SynchronousTestCase):
    """How long a host that was down is left alone."""

    def kept_for(self, *delays: int) -> float:
        """Return after how many seconds the agent would try an address again."""
        clock = Clock()
        config = replace(
            CONFIG,
            relay=Relay(resolvers=(NameServer.parse("192.0.2.53"),)),
            retry=Retry(delays=tuple(Seconds(delay) for delay in delays)),
        )
        agent = build_agent(
            config,
            clock,
            build_router(config, clock),
            ClientContexts(),
            Workers(clock, "files", 1),
        )
        agent.dead.mark("192.0.2.1", 25, DeliveryStatus(Action.DELAYED, "4.4.1", "refused"))
        seconds = 0.0
        while agent.dead.get("192.0.2.1", 25) is not None:
            clock.advance(0.5)
            seconds += 0.5
        return seconds

    def test_the_first_retry_tries_it(self) -> None:
        """A short schedule is not answered from what the attempt before found."""
        self.assertEqual(self.kept_for(300), DEAD_TIME)
        self.assertLess(self.kept_for(2, 600), 2)
