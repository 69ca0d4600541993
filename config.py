"""TOML and JSON into frozen dataclasses, and back.

An unknown key, a wrong type or a contradiction is an error that names the file and the key's path, and for a key
that is nearly right the right one. Nothing is ever ignored or corrected.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .errors import UsageError

T = TypeVar("T")


def near(word: str, choices: typing.Iterable[str], aliases: typing.Mapping[str, str] | None = None) -> str:
    """Return `, did you mean "x"?` for the nearest of the choices, or an empty string; upper case makes no difference.

    Args:
        word: what was given, which is none of the choices.
        choices: what it may be.
        aliases: other names that people use, in lower case, each with the choice that is meant.
    """
    plain, others = {choice.lower(): choice for choice in choices if choice != word}, aliases or {}
    if found := difflib.get_close_matches(word.lower(), plain, n=1):
        return f', did you mean "{plain[found[0]]}"?'
    found = difflib.get_close_matches(word.lower(), others, n=1, cutoff=0.8)  # tensorflow is not tensorrt
    return f', did you mean "{others[found[0]]}"?' if found else ""


def cache_folder() -> Path:
    """Where zoo keeps what it may lose: ZOO_CACHE, else XDG_CACHE_HOME/zoo, else ~/.cache/zoo.

    Raises:
        OSError: this user has no home.
    """
    own = os.environ.get("ZOO_CACHE")
    if own:
        return Path(own)
    other = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(other or Path("~/.cache").expanduser()) / "zoo"
    except RuntimeError as error:
        raise FileNotFoundError("no home") from error


def from_mapping(cls: type[T], data: object, where: str) -> T:
    """Build the (nested, frozen) dataclass `cls` from parsed TOML or JSON.

    Args:
        cls: a dataclass; its `__post_init__` refuses contradictions with ValueError.
        data: what the parser gave.
        where: the file's name, for messages.

    Raises:
        UsageError: naming `where`, the key's path, and what was wrong with it.
    """
    _refuse_unknown_keys(cls, data, where, "")
    try:
        return msgspec.convert(data, cls)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}", fix=_choices(cls, str(error))) from error


def from_toml(cls: type[T], path: Path) -> T:
    """Read a TOML file into `cls`. Raises UsageError, see `from_mapping`."""
    return from_mapping(cls, read_toml(path), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file. Raises UsageError that names the file and the line."""
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is no regular file", fix="give a TOML file")
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows' Notepad marks UTF-8
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (ValueError, OSError, RecursionError) as error:  # of the text, its numbers, and its nesting
        raise UsageError(f"{path}: cannot be read as TOML: {_short(error)}", fix="look at the file") from error


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises UsageError that names the file and the place."""
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (ValueError, OSError, RecursionError) as error:  # of the text, its numbers, and its nesting
        raise UsageError(f"{path}: cannot be read as JSON: {_short(error)}", fix="look at the file") from error


def parse_setting(text: str, example: str, option: str = "--set") -> tuple[str, Any]:
    """`key=value` of a `--set`: the value is TOML, and what is no TOML is a string. Raises UsageError."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"{option} {text}: expected key=value", fix=f"for example {option} {example}")
    value = value.strip()
    try:
        return key.strip(), value if "\n" in value else tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{option} {key.strip()}: {_short(error)}", fix=f"for example {option} {example}") from error


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is beyond what a number can be")
    return value


def _choices(cls: Any, message: str) -> str:
    """What a key of few words may be, or the type that a key has; of a message that ends with its path."""
    path = message.rpartition("`$.")[2].rstrip("`")
    hint = typing.get_type_hints(cls).get(path) if dataclasses.is_dataclass(cls) else None
    if typing.get_origin(hint) is typing.Literal:
        return f"{path} is one of {', '.join(map(str, typing.get_args(hint)))}"
    default = getattr(cls, path, None) if hint is not None else None
    return f"for example {path}={json.dumps(default)}" if isinstance(default, bool | int | float | tuple) else ""


def to_mapping(value: Any) -> Any:
    """A dataclass (or a list, dict, tuple of them) as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)  # msgspec alone leaves out defaults that it filled in itself
    return msgspec.to_builtins(value)


def to_json(value: Any) -> str:
    """Indented JSON of a dataclass or plain values; keys stay in order, NaN and infinity are refused."""
    return json.dumps(to_mapping(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _refuse_unknown_keys(cls: Any, data: object, where: str, path: str) -> None:
    if not (dataclasses.is_dataclass(cls) and isinstance(data, dict)):
        return
    hints = typing.get_type_hints(cls)
    for key, value in data.items():
        here = f"{path}.{key}" if path else str(key)
        if key not in hints:
            raise UsageError(f"{where}: unknown key `{here}`{near(str(key), hints)}", fix=f"known: {', '.join(hints)}")
        for inner in _dataclasses_in(hints[key]):
            _refuse_unknown_keys(inner, value, where, here)
        if typing.get_origin(hints[key]) in (tuple, list) and isinstance(value, list):
            for place, one in enumerate(value):
                for inner in _dataclasses_in(typing.get_args(hints[key])[0]):
                    _refuse_unknown_keys(inner, one, where, f"{here}[{place}]")


def _dataclasses_in(hint: Any) -> list[Any]:
    if dataclasses.is_dataclass(hint):
        return [hint]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [inner for inner in typing.get_args(hint) if dataclasses.is_dataclass(inner)]
    return []
