"""Policies by name, or from a TOML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from measlog.appraisal.policy import Policy, flatcar, leaves
from measlog.appraisal.policy_file import load_policy
from measlog.appraisal.rules.base import Rule
from measlog.cli.errors import InputError, about
from measlog.cli.files import KEY_LIMIT, read

__all__ = ["NAMES", "choose_policy", "policy_text", "rule_sentences"]

NAMES: Mapping[str, Callable[[], Policy]] = {
    "flatcar": lambda: flatcar(secure_boot=True),
    "flatcar-secure-boot-off": lambda: flatcar(secure_boot=False),
}
"""The published policies."""


def choose_policy(name: str) -> Policy:
    """The policy of that name; else the one in the file of that name."""
    known = NAMES.get(name)
    if known is not None:
        return known()
    if not Path(name).exists():
        raise InputError(f"{name}: neither the name of a policy ({', '.join(NAMES)}) nor a file")
    data = read(name, KEY_LIMIT)
    with about(name):
        return load_policy(data)


def policy_text(name: str) -> bytes:
    """The TOML of the policy of that name; else the file of that name, whatever is in it."""
    if name in NAMES:
        secure_boot = str(name == "flatcar").lower()
        return f'format = "measlog.policy/1"\nname = "{name}"\nuse = "flatcar"\nsecure_boot = {secure_boot}\n'.encode()
    data = read(name, KEY_LIMIT)
    with about(name):
        load_policy(data)
    return data


def rule_sentences(rule: Rule) -> dict[str, str]:
    """What each single rule within ``rule`` demands, by the rule's code."""
    return {leaf.code: leaf.sentence for leaf in leaves(rule)}
