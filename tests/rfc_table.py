"""The table of RFCs in README, made from ``rfc.toml``: ``python -m tests.rfc_table`` updates it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- rfc table: begin -->\n", "<!-- rfc table: end -->\n"


@dataclass(frozen=True, slots=True)
class Entry:
    """One RFC."""

    number: int
    title: str
    status: str
    tests: tuple[str, ...]
    note: str


def entries() -> tuple[Entry, ...]:
    """Return what ``rfc.toml`` has, in its order."""
    table = tomllib.loads((ROOT / "tests" / "rfc.toml").read_text())
    return tuple(
        Entry(
            row["number"],
            row["title"],
            row["status"],
            tuple(row.get("tests", ())),
            row.get("note", ""),
        )
        for row in table["rfc"]
    )


def table() -> str:
    """Return the table, as README has it between its marks."""
    lines = ["| RFC | Title | Support |", "|---|---|---|"]
    for entry in entries():
        if entry.status != "no":
            support = entry.status + (f": {entry.note}" if entry.note else "")
            lines.append(f"| {entry.number} | {entry.title} | {support} |")
    return "\n".join(lines) + "\n"


def split(text: str) -> tuple[str, str, str]:
    """Return README before the table, the table, and README after it."""
    before, _, rest = text.partition(BEGIN)
    inside, _, after = rest.partition(END)
    return before + BEGIN, inside, END + after


if __name__ == "__main__":
    before, _, after = split(README.read_text())
    README.write_text(before + table() + after)
