"""
Results as an administrator sees them: tables for people, JSON for programs.

What is shown came from outside in part (display names, servers' answers), so every value is one
line without control characters; JSON escapes them. A result's keys that no column names are shown
after the others, so that nothing is hidden.
"""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mailhost.admin.verbs import Column, Result, Show
from mailhost.observe import safe_text

_GAP = "  "
_MAX_CELL = 60


def as_json(result: object) -> str:
    """Return a result as JSON for programs, with a line end."""
    return json.dumps(result, indent=2) + "\n"


def as_text(result: Result, columns: Sequence[Column]) -> str:
    """Return a result for people, with a line end; nothing for an empty list."""
    if isinstance(result, list):
        return table([column.title for column in columns], _rows(result, columns)) if result else ""
    return details(result, columns)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with aligned columns; cells are cut where they are too long."""
    cells = [list(titles), *([_cut(cell) for cell in row] for row in rows)]
    widths = [max(_width(row[index]) for row in cells) for index in range(len(titles))]
    return "".join(
        _GAP.join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in cells
    )


def details(result: Mapping[str, Any], columns: Sequence[Column]) -> str:
    """Return one entry as a line for each of its values; lists of entries as tables below."""
    lines: list[tuple[str, str]] = []
    tables: list[str] = []
    known = {column.key for column in columns}
    for column in columns:
        if column.key in result:
            lines.append((column.title, shown(result[column.key], column.show)))
    for key, value in result.items():
        if key in known:
            continue
        title = key.replace("_", " ").capitalize()
        if isinstance(value, list) and value and isinstance(value[0], dict):
            tables.append(f"\n{title}:\n{_inner_table(value)}")
        else:
            lines.append((title, shown(value, _guess(key, value))))
    width = max((_width(title) for title, _ in lines), default=0)
    return "".join(
        f"{_padded(title + ':', width + 1)}  {text}".rstrip() + "\n" for title, text in lines
    ) + "".join(tables)


def shown(value: object, show: Show) -> str:
    """Return a value as one line for people."""
    if value is None:
        return ""
    if show is Show.TIME:
        if not isinstance(value, int | float) or not value:
            return ""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
    if show is Show.SIZE and isinstance(value, int | float):
        return _size(value)
    if show is Show.YES_NO:
        return "yes" if value else "no"
    if show is Show.LIST and isinstance(value, list | tuple):
        return ", ".join(safe_text(item, 400) for item in value)
    return safe_text(value, 4000)


def _rows(result: Iterable[Mapping[str, Any]], columns: Sequence[Column]) -> list[list[str]]:
    return [[shown(entry.get(column.key), column.show) for column in columns] for entry in result]


def _inner_table(entries: Sequence[Mapping[str, Any]]) -> str:
    keys = list(entries[0])
    titles = [key.replace("_", " ").capitalize() for key in keys]
    rows = [
        [shown(entry.get(key), _guess(key, entry.get(key))) for key in keys] for entry in entries
    ]
    return table(titles, rows)


def _guess(key: str, value: object) -> Show:
    if key.endswith("_at") or key in ("next_attempt", "expires"):
        return Show.TIME
    if isinstance(value, bool):
        return Show.YES_NO
    return Show.LIST if isinstance(value, list | tuple) else Show.TEXT


def _size(octets: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if octets < 1024:
            return f"{octets:.0f} {unit}" if unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1024
    return f"{octets:.1f} TiB"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CELL else text[: _MAX_CELL - 3] + "..."


def _width(text: str) -> int:
    """How many places a terminal gives the text."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.combining(character)
        else 2
        if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
