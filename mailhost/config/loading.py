"""
A TOML file to a `Config`, or a `ConfigError` that says where, what and what to do.

Every key is checked: its name (with the nearest known one when it is wrong), its type, its range,
that it is there when it must be. Relative file names count from the file's own directory. Nothing
is opened but the file itself.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from mailhost.config.sections import VERSION, Config
from mailhost.errors import ConfigError
from mailhost.units import Octets, Seconds

RENAMED: Mapping[str, str] = MappingProxyType({})
"""Old to new key paths, list positions left out (``listeners.address``). Old ones are errors."""

MAX_FILE = 1024 * 1024

_TIME_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_QUANTITY = re.compile(r"(\d{1,15}) ?([A-Za-z]+)\Z")
_MISSING = dataclasses.MISSING


def load(path: Path) -> Config:
    """
    Return the settings of a file.

    Raises:
        ConfigError: it cannot be read or used; the text begins with the file's name.
    """
    try:
        if path.stat().st_size > MAX_FILE:
            raise ConfigError(str(path), "larger than 1 MiB; this is no configuration file")
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(
            str(path), f"cannot be read ({error.strerror}); check the name and its permissions"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(str(path), "not UTF-8 text; save it as UTF-8") from None
    try:
        return parse(text, path.absolute().parent)
    except ConfigError as error:
        raise ConfigError(str(path), str(error)) from None


def parse(text: str, directory: Path) -> Config:
    """
    Return the settings that a TOML text spells.

    Args:
        text: TOML.
        directory: what relative file names in it count from.

    Raises:
        ConfigError: the text cannot be used.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("", f"not TOML: {error}; correct that place") from None
    version = table.pop("version", None)
    if version is None:
        raise ConfigError("version", f"missing; add version = {VERSION} as the first line")
    if type(version) is not int or version != VERSION:
        raise ConfigError(
            "version",
            f"{_shown(version)} is not a version that this mailhost reads; it reads {VERSION}",
        )
    config: Config = _section(Config, table, "", directory)
    check(config)
    return config


def check(config: Config) -> None:
    """Raise ConfigError for the first setting that does not go with the others."""
    for path, problem in config.faults():
        raise ConfigError(path, problem)


@lru_cache(maxsize=64)
def settings_of(section: type) -> tuple[tuple[dataclasses.Field[Any], Any], ...]:
    """Return the fields of a section with their types."""
    hints = get_type_hints(section)
    return tuple((entry, hints[entry.name]) for entry in dataclasses.fields(section))


def optional_inner(hint: Any) -> Any:
    """Return X of ``X | None``, and any other type as it is."""
    if get_origin(hint) is UnionType:
        return next(argument for argument in get_args(hint) if argument is not NoneType)
    return hint


def is_section(hint: Any) -> bool:
    """Whether the type is a table of settings."""
    return isinstance(hint, type) and any(
        "comment" in entry.metadata
        for entry in (dataclasses.fields(hint) if dataclasses.is_dataclass(hint) else ())
    )


def _section(section: type, table: Mapping[str, Any], path: str, directory: Path) -> Any:
    known = {entry.name: (entry, hint) for entry, hint in settings_of(section)}
    for key in table:
        if key not in known:
            raise ConfigError(_join(path, key), _unknown(path, key, known))
    values: dict[str, Any] = {}
    for name, (entry, hint) in known.items():
        where = _join(path, name)
        if name in table:
            values[name] = _value(entry, hint, table[name], where, directory)
        elif entry.default is _MISSING and entry.default_factory is _MISSING:
            example = entry.metadata["example"] or "..."
            raise ConfigError(where, f"missing; add {name} = {example}")
    return section(**values)


def _unknown(path: str, key: str, known: Mapping[str, Any]) -> str:
    plain = re.sub(r"\[\d+\]", "", _join(path, key))
    if plain in RENAMED:
        return f"renamed; write {RENAMED[plain]} instead"
    names = [*known, "version"] if not path else list(known)
    near = get_close_matches(key, names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}? " if near else "remove it; "
    return f"unknown key; {hint}known: {', '.join(sorted(names))}"


def _value(entry: dataclasses.Field[Any], hint: Any, value: Any, path: str, directory: Path) -> Any:
    hint = optional_inner(hint)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ConfigError(path, f"{_shown(value)} is not a list; write it in [ ]")
        inner = get_args(hint)[0]
        return tuple(
            _value(entry, inner, item, f"{path}[{index}]", directory)
            for index, item in enumerate(value)
        )
    if is_section(hint):
        if not isinstance(value, dict):
            raise ConfigError(path, f"{_shown(value)} is not a table; write it as [{path}]")
        return _section(hint, value, path, directory)
    result = _scalar(hint, value, path, directory, entry.metadata["parse"])
    if isinstance(result, int | float) and not isinstance(result, bool):
        _check_range(entry, hint, result, path)
    return result


def _scalar(hint: Any, value: Any, path: str, directory: Path, read: Any) -> Any:
    if read is not None:
        text = _expect(str, value, path)
        try:
            return read(text)
        except ValueError as error:
            raise ConfigError(path, f"{_shown(value)} is {error}") from None
    if hint is Seconds:
        return Seconds(_quantity(value, path, _TIME_UNITS, "a time such as 90 or 5m"))
    if hint is Octets:
        return Octets(int(_quantity(value, path, _SIZE_UNITS, "a size such as 65536 or 50MiB")))
    if hint is Path:
        text = _expect(str, value, path)
        if not text or "\0" in text:
            raise ConfigError(path, "empty; write a file name")
        return directory / text
    if issubclass(hint, StrEnum):
        choices = [str(choice) for choice in hint]
        if value not in choices:
            near = get_close_matches(str(value), choices, n=1)
            mean = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(path, f"{_shown(value)} is none of {', '.join(choices)}{mean}")
        return hint(value)
    return _expect(hint, value, path)


_TYPE_WORDS = {str: 'a text; write it in "quotes"', int: "a whole number", bool: "true or false"}


def _expect(hint: Any, value: Any, path: str) -> Any:
    if type(value) is not hint:
        raise ConfigError(path, f"{_shown(value)} is not {_TYPE_WORDS[hint]}")
    return value


def _quantity(value: Any, path: str, units: Mapping[str, int], wanted: str) -> int:
    if type(value) is int and value >= 0:
        return value
    match = _QUANTITY.match(value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ConfigError(
            path, f"{_shown(value)} is not {wanted} (a number, or one with {', '.join(units)})"
        )
    return int(match[1]) * units[match[2]]


def _check_range(entry: dataclasses.Field[Any], hint: Any, value: float, path: str) -> None:
    low, high = entry.metadata["low"], entry.metadata["high"]
    if low is not None and value < low:
        raise ConfigError(
            path, f"{written(hint, value)} is too low; the least is {written(hint, low)}"
        )
    if high is not None and value > high:
        raise ConfigError(
            path, f"{written(hint, value)} is too high; the most is {written(hint, high)}"
        )


def written(hint: Any, value: float) -> str:
    """Return a number as an operator would write it: with the largest unit that divides it."""
    units = _TIME_UNITS if hint is Seconds else _SIZE_UNITS if hint is Octets else {}
    for unit, factor in reversed(units.items()):
        if value and value % factor == 0 and factor > 1:
            return f"{int(value) // factor}{unit}"
    return str(int(value))


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _shown(value: Any) -> str:
    """A value from the file, short and on one line."""
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else f"{text[:57]}..."
