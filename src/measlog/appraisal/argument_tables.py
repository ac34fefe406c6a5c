"""Models of kernel arguments written as TOML.

Within a policy, or in a file of their own with ``format = "measlog.arguments/1"``, as tables::

    [[arguments]]
    name = "console"
    pattern = "tty[0-9]+"
    repeat = true
    override = true

or, where their order matters, as ``[arguments]`` with ``ordered = true`` and ``[[arguments.rules]]``. An error names the
line.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from measlog.errors import PolicyError
from measlog.flatcar.cmdline import ArgumentModel, ArgumentRule

__all__ = ["ARGUMENTS_FORMAT", "ArgumentTables", "load_arguments", "toml_document"]

ARGUMENTS_FORMAT = "measlog.arguments/1"
_SIZE_LIMIT = 1 << 20
_RULES_LIMIT = 256
_HEADER = re.compile(r"\s*\[\[\s*(?:[\w.-]+\.)?arguments(?:\.rules)?\s*\]\]")
_PLACE = re.compile(r"\s*\[*\s*(?:[\w.-]+\.)?arguments\b")


def toml_document(data: bytes, *, what: str) -> tuple[str, dict[str, Any]]:
    """Text and tables of a TOML file. Raises PolicyError with the line for anything else."""
    if len(data) > _SIZE_LIMIT:
        raise PolicyError(f"a {what} of {len(data)} bytes is larger than {_SIZE_LIMIT}")
    try:
        text = data.decode()
        return text, tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise PolicyError(f"line {data[: error.start].count(10) + 1}: not UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyError(f"not TOML: {error}") from None


def load_arguments(data: bytes) -> ArgumentModel:
    """A model from a file of its own. Raises :class:`~measlog.errors.PolicyError`, which names the line."""
    text, document = toml_document(data, what="model of arguments")
    if document.pop("format", None) != ARGUMENTS_FORMAT:
        raise PolicyError(f"format must be {ARGUMENTS_FORMAT!r}")
    tables = ArgumentTables(text.splitlines())
    arguments = document.pop("arguments", None)
    for key in document:
        raise PolicyError(f"{key} is not known here")
    return tables.model(arguments)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text")
    return value


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("a list of texts")
    return [_text(item) for item in value]


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("true or false")
    return value


_KEYS: Mapping[str, Callable[[object], Any]] = {
    "name": _text,
    "values": _texts,
    "pattern": _text,
    "repeat": _flag,
    "override": _flag,
}


class ArgumentTables:
    """Turns the tables of one document into models, in the order in which they stand there."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._headers = [i for i, line in enumerate(lines) if _HEADER.match(line)]
        self._read = 0

    def model(self, value: object) -> ArgumentModel:
        """The model of a value of ``arguments``: a list of rules, or a table with ``rules`` and ``ordered``."""
        ordered, tables = False, value
        if isinstance(value, dict):
            unknown = sorted(value.keys() - {"ordered", "rules"})
            if unknown or type(value.get("ordered", False)) is not bool:
                raise self._fail(f"arguments has rules, and ordered = true or false, not {(unknown or ['ordered'])[0]}")
            ordered, tables = value.get("ordered", False), value.get("rules")
        if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
            raise self._fail("arguments must be a list of tables with the name of an argument in each")
        if len(tables) > _RULES_LIMIT:
            raise self._fail(f"more than {_RULES_LIMIT} rules for arguments")
        return ArgumentModel(rules=[self._rule(table) for table in tables], ordered=ordered)

    def _rule(self, table: Mapping[str, object]) -> ArgumentRule:
        number, self._read = self._read, self._read + 1
        for key in table:
            if key not in _KEYS:
                raise self._fail(f"the rule of an argument has no parameter {key}", number, key)
        if "name" not in table:
            raise self._fail("the rule of an argument needs its name", number)
        read: dict[str, Any] = {}
        for key, value in table.items():
            try:
                read[key] = _KEYS[key](value)
            except TypeError as error:
                raise self._fail(f"{key} must be {error}", number, key) from None
        for key in ("name", *(read.keys() & {"pattern", "values"})):
            try:
                ArgumentRule(**{"name": read["name"], key: read[key]})
            except PolicyError as error:
                raise self._fail(str(error), number, key) from None
        return ArgumentRule(**read)

    def _fail(self, message: str, number: int | None = None, key: str | None = None) -> PolicyError:
        """The error, with the line of the key in the table of that number; of the table where it has none."""
        if number is None or number >= len(self._headers):
            # Tables within a line have no lines of their own.
            line = next((i for i, content in enumerate(self._lines) if _PLACE.match(content)), None)
        else:
            line = self._headers[number]
            body = range(line + 1, self._headers[number + 1] if number + 1 < len(self._headers) else len(self._lines))
            if key is not None:
                own = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=")
                line = next((i for i in body if own.match(self._lines[i])), line)
        return PolicyError(message if line is None else f"line {line + 1}: {message}")
