"""
Plays transcripts of a protocol against a server object.

A test class derives from `TranscriptTests`, names a directory and builds a `Peer`, the server under
test with a fake transport. The file format is described in ``tests/transcripts/README.md``.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from twisted.trial.unittest import SynchronousTestCase

HERE = Path(__file__).resolve().parent / "transcripts"


class Peer(Protocol):
    """A server under test with a fake transport and clock."""

    def feed(self, data: bytes) -> None:
        """Deliver octets from the client."""

    def take_output(self) -> bytes:
        """Return what the server wrote since the last call."""

    def settle(self) -> None:
        """Fire every late answer, and those that come of it, until none is left."""

    def start_tls(self) -> bool:
        """Finish the handshake the server asked for; False if it asked for none."""

    def advance(self, seconds: float) -> None:
        """Let time pass."""

    @property
    def closed(self) -> bool:
        """Whether the server closed the connection."""


@dataclass(frozen=True)
class Step:
    """One line of a transcript: its kind and its octets or text."""

    line: int
    kind: str
    data: bytes


@dataclass(frozen=True)
class Transcript:
    """A whole file."""

    name: str
    options: dict[str, str]
    steps: tuple[Step, ...]


def _unescape(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


def load(path: Path) -> Transcript:
    """Read a transcript."""
    options: dict[str, str] = {}
    steps: list[Step] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.startswith("#:"):
            name, _, value = line[2:].strip().partition(" ")
            options[name] = value.strip()
            continue
        if line.startswith("#") or not line.strip():
            continue
        mark, text = line[:2], line[3:]
        if mark in ("C:", "S:"):
            steps.append(Step(number, mark[0], text.encode() + b"\r\n"))
        elif mark in ("C\\", "S\\"):
            steps.append(Step(number, mark[0], _unescape(text)))
        elif mark in ("S~", "T:", "W:", "X:"):
            steps.append(Step(number, "~" if mark == "S~" else mark[0], text.encode()))
        else:
            raise ValueError(f"{path.name}:{number}: {line!r} is no transcript line")
    return Transcript(path.stem, options, tuple(steps))


def _pieces(data: bytes, way: str, seed: int) -> list[bytes]:
    if way == "bytewise":
        return [data[index : index + 1] for index in range(len(data))]
    if way == "cuts":
        chance = random.Random(seed)
        cuts = sorted(chance.sample(range(1, len(data)), min(len(data) - 1, chance.randint(1, 8))))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [data]


class _Player:
    def __init__(self, transcript: Transcript, peer: Peer, way: str, seed: int) -> None:
        self.transcript, self.peer, self.way, self.seed = transcript, peer, way, seed
        self.said = b""
        self.pending = b""

    def fault(self, step: Step, problem: str) -> AssertionError:
        return AssertionError(
            f"{self.transcript.name} line {step.line} ({self.way}): {problem}; "
            f"the server said {self.said!r}"
        )

    def send(self) -> None:
        data, self.pending = self.pending, b""
        for piece in _pieces(data, self.way, self.seed) if data else []:
            self.peer.feed(piece)
            if self.way != "late":
                self.peer.settle()
        self.peer.settle()
        self.said += self.peer.take_output()

    def play(self) -> None:
        self.send()
        for step in self.transcript.steps:
            if step.kind == "C":
                self.pending += step.data
                continue
            self.send()
            getattr(self, f"step_{ {'~': 'match'}.get(step.kind, step.kind) }")(step)
        self.send()
        if self.said:
            raise AssertionError(f"{self.transcript.name} ({self.way}): also said {self.said!r}")

    def step_S(self, step: Step) -> None:
        if not self.said.startswith(step.data):
            raise self.fault(step, f"expected {step.data!r}")
        self.said = self.said[len(step.data) :]

    def step_match(self, step: Step) -> None:
        line, end, rest = self.said.partition(b"\r\n")
        if not end or not re.fullmatch(step.data, line):
            raise self.fault(step, f"expected a line like {step.data!r}")
        self.said = rest

    def step_T(self, step: Step) -> None:
        if self.said or not self.peer.start_tls():
            raise self.fault(step, "expected a TLS handshake")

    def step_W(self, step: Step) -> None:
        self.peer.advance(float(step.data))
        self.peer.settle()
        self.said += self.peer.take_output()

    def step_X(self, step: Step) -> None:
        if self.said or not self.peer.closed:
            raise self.fault(step, "expected the connection closed")


class TranscriptTests(SynchronousTestCase):
    """Every transcript of a directory, four ways. Derive, set `directory`, define `peer`."""

    directory: ClassVar[str] = ""

    def peer(self, options: dict[str, str], late: bool) -> Peer:
        """Build a fresh server; with `late` its collaborators answer only when settled."""
        raise NotImplementedError

    def play_all(self, way: str, rounds: int = 1) -> None:
        """Play every file of the directory in one way."""
        paths = sorted((HERE / self.directory).glob("*.txt"))
        self.assertTrue(paths, f"no transcripts in {self.directory}")
        for path in paths:
            transcript = load(path)
            for seed in range(rounds):
                peer = self.peer(dict(transcript.options), way == "late")
                _Player(transcript, peer, way, seed * 1009 + len(path.name)).play()


def ways(case: type[Any]) -> type[Any]:
    """Class decorator: add the four tests to a `TranscriptTests`."""
    for way, rounds in (("whole", 1), ("bytewise", 1), ("cuts", 5), ("late", 1)):

        def test(self: Any, way: str = way, rounds: int = rounds) -> None:
            self.play_all(way, rounds)

        test.__doc__ = f"Every transcript, {way}."
        setattr(case, f"test_transcripts_{way}", test)
    return case
