"""Policies written as TOML.

A file either names a published policy and its parameters::

    format = "measlog.policy/1"
    name = "our fleet"
    use = "flatcar"
    secure_boot = true
    allowed_arguments = ["flatcar.autologin"]

with rules for kernel arguments where these may vary (:mod:`measlog.appraisal.argument_tables`), or lists its rules (``[[rule]]`` tables with a ``kind``; ``all-of`` and ``any-of`` hold ``[[rule.rules]]``) and the
registers it requires. Whatever is not understood is an error that names the line: nothing is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from measlog.appraisal.argument_tables import ArgumentTables, toml_document
from measlog.appraisal.policy import AllOf, AnyOf, Policy, UnsafeAcceptAll, flatcar
from measlog.appraisal.rules.banks import ConsistentBanks, HashedData, MeasuredBank, SoundLog
from measlog.appraisal.rules.base import Rule
from measlog.appraisal.rules.boot_path import BootPaths
from measlog.appraisal.rules.boundaries import HandOver, Separators
from measlog.appraisal.rules.platform import OpenEnded, Platform, Untouched
from measlog.appraisal.rules.secure_boot import SecureBoot
from measlog.appraisal.rules.unified import UnifiedBoot
from measlog.errors import PolicyError

__all__ = ["FORMAT", "load_policy"]

FORMAT = "measlog.policy/1"
_DEPTH_LIMIT = 8

_RULES: Mapping[str, type[Any]] = {
    "bank-consistent": ConsistentBanks,
    "bank-measured": MeasuredBank,
    "boot-path": BootPaths,
    "event-hashed": HashedData,
    "hand-over": HandOver,
    "log-sound": SoundLog,
    "open-ended": OpenEnded,
    "platform": Platform,
    "secure-boot": SecureBoot,
    "separators": Separators,
    "unified-boot": UnifiedBoot,
    "unsafe-accept-all": UnsafeAcceptAll,
    "untouched": Untouched,
}
_FIXED = frozenset({"code", "sentence", "registers", "rules"})
_POLICIES: Mapping[str, Callable[..., Policy]] = {"flatcar": flatcar}


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("true or false")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise TypeError("a list of strings")
    return tuple(value)


def _digests(value: object) -> frozenset[bytes]:
    try:
        found = frozenset(bytes.fromhex(v) for v in _texts(value))
    except ValueError:
        raise TypeError("a list of SHA-256 digests in hex") from None
    if any(len(d) != 32 for d in found):
        raise TypeError("a list of SHA-256 digests in hex")
    return found


def _generations(value: object) -> dict[str, int]:
    if not isinstance(value, dict) or not all(type(v) is int and v >= 0 for v in value.values()):
        raise TypeError("a table of component names with numbers")
    return dict(value)


def _registers(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(v) is int and 0 <= v < 24 for v in value) or not value:
        raise TypeError("a list of registers from 0 to 23")
    return tuple(value)


def _severity(value: object) -> str:
    if value not in ("error", "warning", "info"):  # a tuple: a list may stand here, which no set can be asked for
        raise TypeError("error, warning or info")
    return str(value)


def _scripts(value: object) -> tuple[bytes, ...]:
    return tuple(text.encode() for text in _texts(value))


_PARAMETERS: Mapping[str, Callable[[object], object]] = {
    "allow_boot_option_retries": _boolean,
    "allow_built_in_override": _boolean,
    "allow_dma_disabled": _boolean,
    "allow_failed_attempts": _boolean,
    "allow_fallback": _boolean,
    "allow_first_boot": _boolean,
    "allow_late_separator": _boolean,
    "allow_mok": _boolean,
    "allow_silent_boot_manager": _boolean,
    "allow_unchecked_usr": _boolean,
    "allow_unproven_phases": _boolean,
    "allowed_arguments": _texts,
    "enabled": _boolean,
    "minimum_dbx": _digests,
    "minimum_sbat": _generations,
    "oem_grub_cfg": _scripts,
    "open_ended": _registers,
    "pcrs": _registers,
    "phases": _texts,
    "secure_boot": _boolean,
    "severity": _severity,
}


def load_policy(data: bytes) -> Policy:
    """Read a policy from TOML.

    Raises :class:`~measlog.errors.PolicyError`, which names the line, for anything that is not understood, and for a
    policy that would check nothing.
    """
    text, document = toml_document(data, what="policy")
    return _Reader(text).policy(document)


class _Reader:
    """Turns tables into rules, with errors that name a line."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        self._arguments = ArgumentTables(self._lines)

    def _fail(self, key: str, message: str, value: object = None) -> PolicyError:
        # tomllib keeps no positions: the first line that assigns the key (this value, if there is one), or opens its
        # table, is the one to show.
        tail = rf"=\s*[\"']{re.escape(value)}[\"']" if isinstance(value, str) else r"(?:=|\])"
        pattern = re.compile(rf"\s*(?:\[+\s*)?(?:[\w.-]+\.)?[\"']?{re.escape(key)}[\"']?\s*{tail}")
        line = next((i for i, content in enumerate(self._lines, 1) if pattern.match(content)), None)
        return PolicyError(f"line {line}: {message}" if line is not None else message)

    def _value(self, key: str, value: object) -> object:
        if key == "arguments":
            return self._arguments.model(value)
        try:
            return _PARAMETERS[key](value)
        except TypeError as error:
            raise self._fail(key, f"{key} must be {error}") from None

    def policy(self, document: dict[str, Any]) -> Policy:
        if document.pop("format", None) != FORMAT:
            raise self._fail("format", f"format must be {FORMAT!r}")
        name = document.pop("name", None)
        if not isinstance(name, str) or not name or len(name) > 256:
            raise self._fail("name", "name must be a text")
        if "use" in document:
            return self._published(name, document)
        required = document.pop("required", None)
        if required is None:
            raise PolicyError("required must list the registers that a reference must cover")
        tables = document.pop("rule", None)
        for key in document:
            raise self._fail(key, f"{key} is not known here")
        try:
            registers = _registers(required)
        except TypeError as error:
            raise self._fail("required", f"required must be {error}") from None
        return Policy(name=name, rule=AllOf(self._rules(tables, 0)), required=frozenset(registers))

    def _published(self, name: str, document: dict[str, Any]) -> Policy:
        use = document.pop("use")
        make = _POLICIES.get(use) if isinstance(use, str) else None
        if make is None:
            raise self._fail("use", f"there is no policy {use!r}; there is {', '.join(sorted(_POLICIES))}")
        arguments: dict[str, object] = {}
        for key, value in document.items():
            if key not in {*_PARAMETERS, "arguments"} or key in {
                "enabled",
                "pcrs",
                "allow_failed_attempts",
                "severity",
            }:
                raise self._fail(key, f"the policy {use} has no parameter {key}")
            arguments[key] = self._value(key, value)
        return attrs.evolve(make(**arguments), name=name)

    def _rules(self, tables: object, depth: int) -> tuple[Rule, ...]:
        if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
            raise self._fail("rule", "a policy without [[rule]] tables would accept everything")
        if depth > _DEPTH_LIMIT:
            raise self._fail("rules", f"rules are nested more than {_DEPTH_LIMIT} deep")
        return tuple(self._rule(dict(table), depth) for table in tables)

    def _rule(self, table: dict[str, Any], depth: int) -> Rule:
        kind = table.pop("kind", None)
        names = ["all-of", "any-of", *sorted(_RULES)]
        if kind not in names:
            raise self._fail("kind", f"there is no rule {kind!r}; there are {', '.join(names)}")
        if kind in {"all-of", "any-of"}:
            rules = self._rules(table.pop("rules", None), depth + 1)
            for key in table:
                raise self._fail(key, f"{kind} has no parameter {key}")
            return AllOf(rules) if kind == "all-of" else AnyOf(rules)
        rule = _RULES[kind]
        known = {f.name for f in attrs.fields(rule)} - _FIXED
        for key in table:
            if key not in known:
                raise self._fail(key, f"the rule {kind} has no parameter {key}")
        if rule in {Untouched, OpenEnded} and "pcrs" not in table:
            raise self._fail("kind", f"the rule {kind} needs pcrs", kind)
        arguments = {key: self._value(key, value) for key, value in table.items()}
        try:
            made = rule(**arguments)
        except PolicyError as error:
            raise self._fail("kind", str(error), kind) from None
        assert isinstance(made, Rule)
        return made
