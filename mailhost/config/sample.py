"""
Settings as text: the commented sample file, and the settings in force.

Both are made from the dataclasses of `sections`, so that file, code and documentation agree. In
the sample a line ``#key = value`` (no space) is a setting with its default; ``# text`` explains;
taking the ``#`` away changes nothing.
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_origin

from mailhost.config.loading import is_section, optional_inner, settings_of, written
from mailhost.config.sections import VERSION, Config
from mailhost.units import Octets, Seconds

_HEAD = """\
# The configuration of mailhost.
#
# A line that begins with "#" and a key shows a default: remove the "#" to change it. Times are
# seconds, or a number with s, m, h or d; sizes are octets, or a number with KiB, MiB or GiB.
# Domains, accounts and aliases are not set here: see "mailhost domain", "account" and "alias".
# Check the file with "mailhost config check"; a running server reads it again on SIGHUP.
"""

_REQUIRED = dataclasses.MISSING
_WIDTH = 96


def sample() -> str:
    """Return the sample file: every setting with its comment and default."""
    lines = [_HEAD, "# The version of this file's shape.", f"version = {VERSION}", ""]
    tables: list[str] = []
    for entry, hint in settings_of(Config):
        inner = optional_inner(hint)
        if is_section(inner):
            tables.extend(_table(entry.name, inner))
        elif get_origin(inner) is tuple and is_section(get_args(inner)[0]):
            tables.extend(_list(entry, get_args(inner)[0]))
        else:
            lines.extend([*_comment(entry), _assignment(entry, inner), ""])
    return "\n".join(lines + tables).rstrip() + "\n"


def shown(config: Config) -> str:
    """Return the settings in force as a TOML file that reads back as the same settings."""
    lines = [f"version = {VERSION}", *_entries(config)]
    return "\n".join(lines) + "\n"


def plain(value: Any) -> Any:
    """Return settings as what JSON can hold: numbers in seconds and octets."""
    if is_section(type(value)):
        return {
            entry.name: plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)
        }
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | int | float | None):
        return value
    return str(value)


def _comment(entry: dataclasses.Field[Any]) -> list[str]:
    text = entry.metadata["comment"]
    return [f"# {line}" for line in text.split("\n")] if text else []


def _default(entry: dataclasses.Field[Any]) -> Any:
    if entry.default_factory is not _REQUIRED:
        return entry.default_factory()
    return entry.default


def _assignment(entry: dataclasses.Field[Any], hint: Any) -> str:
    default = _default(entry)
    if default is _REQUIRED:
        return f"{entry.name} = {entry.metadata['example']}"
    if default is None:
        return f"# {entry.name} = {entry.metadata['example']}"
    return f"#{entry.name} = {_toml(hint, default)}"


def _table(path: str, section: type) -> Iterator[str]:
    later: list[str] = []
    yield f"# {(section.__doc__ or '').strip()}"
    yield f"[{path}]"
    for entry, hint in settings_of(section):
        inner = optional_inner(hint)
        if is_section(inner):
            later.extend(_example(entry, f"[{path}.{entry.name}]", inner))
        else:
            yield from _comment(entry)
            yield _assignment(entry, inner)
    yield ""
    yield from later


def _list(entry: dataclasses.Field[Any], section: type) -> Iterator[str]:
    default = _default(entry)
    if not default:
        yield from _example(entry, f"[[{entry.name}]]", section)
        return
    yield from _comment(entry)
    yield "#"
    for inner, hint in settings_of(section):
        ending = (
            "" if _default(inner) is _REQUIRED else f" Default: {_toml(hint, _default(inner))}."
        )
        text = f"{inner.name}: {inner.metadata['comment']}{ending}"
        yield from textwrap.wrap(
            text, _WIDTH, initial_indent="# ", subsequent_indent="#     ", break_long_words=False
        )
    for item in default:
        yield ""
        yield f"#[[{entry.name}]]"
        for inner, hint in settings_of(section):
            value = getattr(item, inner.name)
            if value != _default(inner):
                yield f"#{inner.name} = {_toml(hint, value)}"
    yield ""


def _example(entry: dataclasses.Field[Any], header: str, section: type) -> Iterator[str]:
    """A table that is absent by default, as an example in the comments."""
    yield from _comment(entry)
    yield "#"
    yield f"#     {header}"
    for inner, hint in settings_of(section):
        value = inner.metadata["example"] or _toml(optional_inner(hint), _default(inner))
        for line in inner.metadata["comment"].split("\n"):
            yield f"#     # {line}"
        yield f"#     {inner.name} = {value}"
    yield ""


def _entries(section: Any, path: str = "") -> Iterator[str]:
    later: list[tuple[str, Any]] = []
    for entry, hint in settings_of(section.__class__):
        value = getattr(section, entry.name)
        where = f"{path}.{entry.name}" if path else entry.name
        if value is None:
            continue
        if is_section(type(value)):
            later.append((f"[{where}]", value))
        elif get_origin(hint) is tuple and is_section(get_args(hint)[0]):
            later.extend((f"[[{where}]]", item) for item in value)
            if not value:
                yield f"{entry.name} = []"
        else:
            yield f"{entry.name} = {_toml(optional_inner(hint), value)}"
    for header, value in later:
        yield ""
        yield header
        yield from _entries(value, header.strip("[]"))


def _toml(hint: Any, value: Any) -> str:
    if isinstance(value, tuple):
        inner = get_args(hint)[0]
        return f"[{', '.join(_toml(inner, item) for item in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if hint in (Seconds, Octets):
        text = written(hint, value)
        return text if text.isdigit() else f'"{text}"'
    if isinstance(value, int):
        return str(value)
    text = str(value) if isinstance(value, StrEnum | Path) else f"{value}"
    # A JSON string is a TOML basic string, but for DEL and surrogates.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
