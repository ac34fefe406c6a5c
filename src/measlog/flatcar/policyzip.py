"""Flatcar's ``_pcr_policy.zip``: read, judged value by value, never a reference.

The archive was made for BIOS machines with TPM 1.2 and GRUB 2.02: digests are SHA-1 alone, boot blocks are those of a
BIOS boot, prefixes are those of that GRUB. What it says of a UEFI boot is told here, with the reason.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import field, frozen
from attrs.validators import deep_iterable, instance_of

from measlog.errors import FormatError, LimitExceededError, ManifestError
from measlog.flatcar.unpack import DAMAGE
from measlog.reference.manifest import ExpectedEvent, ReferenceManifest, parse_json

__all__ = ["PolicyRule", "PolicyZip", "RuleVerdict"]

MEMBERS = frozenset(
    {"kernel.config", "grub_loader.config", "grub_modules.config", "kernel_cmdline.config", "grub_commands.config"}
)
SIZE_LIMIT = 1 << 20
RULE_LIMIT = 16_384
TEXT_LIMIT = 512
PREFIXES = ("grub_cmd: ", "kernel_cmdline: ")
"""The prefixes that the GRUB of today writes before its commands and the kernel's command line."""

_SHA1 = re.compile("[0-9a-f]{40}")
_BIOS = re.compile(r"boot\.img|diskboot|core\.img|i386-pc", re.IGNORECASE)


@frozen(kw_only=True)
class PolicyRule:
    """One value of the archive. ``kind`` is ``binary`` (a SHA-1 digest) or ``ascii`` (a regular expression)."""

    member: str = field(validator=instance_of(str))
    pcr: int = field(validator=instance_of(int))
    kind: str = field(validator=instance_of(str))
    prefix: str = field(validator=instance_of(str))
    value: str = field(validator=instance_of(str))
    description: str = field(validator=instance_of(str))


@frozen(kw_only=True)
class RuleVerdict:
    """What a rule is worth for a UEFI boot.

    ``verdict`` is ``matches`` (an event of the release), ``unmatched`` (no event of the release), ``never`` (no UEFI
    boot can have it), ``broken`` (it cannot match what it was written for) or ``possible`` (no release was given to try
    it on). ``reasons`` are in words.
    """

    rule: PolicyRule = field(validator=instance_of(PolicyRule))
    verdict: str = field(validator=instance_of(str))
    reasons: tuple[str, ...] = field(validator=deep_iterable(instance_of(str)))


@frozen(kw_only=True)
class PolicyZip:
    """The rules of an archive, in the order of its files and values."""

    rules: tuple[PolicyRule, ...] = field(validator=deep_iterable(instance_of(PolicyRule)))

    @classmethod
    def from_bytes(cls, data: bytes) -> PolicyZip:
        """Read the archive; FormatError where it is none or holds anything but the five files."""
        rules: list[PolicyRule] = []
        for name, content in _members(data):
            try:
                document = parse_json(content, what=name, size=SIZE_LIMIT)
            except ManifestError as error:
                raise FormatError(str(error), path=name) from None
            for rule in _rules(name, document):
                rules.append(rule)
                if len(rules) > RULE_LIMIT:
                    raise LimitExceededError(f"more than {RULE_LIMIT} values", path=name)
        if not rules:
            raise FormatError("an archive without a single value")
        return cls(rules=tuple(rules))

    def judge(self, manifest: ReferenceManifest | None = None) -> tuple[RuleVerdict, ...]:
        """Each rule's worth for a UEFI boot, tried on the boot paths and files of ``manifest`` where one is given."""
        events = [event for path in manifest.boot_paths for event in path.events] if manifest is not None else []
        flat = {one.flat["sha1"] for one in manifest.components} if manifest is not None else set()
        return tuple(_judge(rule, None if manifest is None else events, flat) for rule in self.rules)

    def unsafe_bios_sha1_digests(self) -> Mapping[int, Mapping[bytes, str]]:
        """The SHA-1 digests by register, with what they are said to be: for BIOS boots and SHA-1 banks alone.

        SHA-1 collides and a BIOS boot verifies nothing; whoever uses these says so by this name.
        """
        found: dict[int, dict[bytes, str]] = {}
        for rule in self.rules:
            if rule.kind == "binary" and _SHA1.fullmatch(rule.value):
                found.setdefault(rule.pcr, {})[bytes.fromhex(rule.value)] = rule.description
        return found


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name, entry in _named(archive):
                with archive.open(entry) as stream:
                    content = stream.read(SIZE_LIMIT + 1)
                if len(content) > SIZE_LIMIT:
                    raise LimitExceededError(f"more than {SIZE_LIMIT} bytes", path=name)
                yield name, content
    except FormatError:
        raise
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, *DAMAGE) as error:
        raise FormatError(f"not a zip archive that can be read: {error}") from None


def _named(archive: zipfile.ZipFile) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > len(MEMBERS):
        raise FormatError(f"{len(entries)} files, expected at most {len(MEMBERS)}")
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename.rpartition("/")[2]
        if name not in MEMBERS or name in seen:
            raise FormatError(f"holds {entry.filename[:80]!r}, expected each of {', '.join(sorted(MEMBERS))} once")
        seen.add(name)
        yield name, entry


def _rules(name: str, document: Mapping[str, Any]) -> Iterator[PolicyRule]:
    for pcr, kinds in document.items():
        path = f"{name}[{pcr[:20]}]"
        if re.fullmatch("[0-9]|1[0-9]|2[0-3]", pcr) is None or not isinstance(kinds, dict):
            raise FormatError("expected registers with their values", path=path)
        for key, kind in (("binaryvalues", "binary"), ("asciivalues", "ascii")):
            groups = kinds.get(key, [])
            if not isinstance(groups, list):
                raise FormatError("expected a list", path=f"{path}.{key}")
            for group in groups:
                yield from _group(name, int(pcr), kind, group, f"{path}.{key}")


def _group(name: str, pcr: int, kind: str, group: Any, path: str) -> Iterator[PolicyRule]:
    if not isinstance(group, dict) or not isinstance(group.get("values"), list):
        raise FormatError("expected a prefix and values", path=path)
    prefix = group.get("prefix", "")
    for one in group["values"]:
        value, description = (one.get("value"), one.get("description", "")) if isinstance(one, dict) else (None, "")
        if not all(isinstance(part, str) for part in (prefix, value, description)):
            raise FormatError("expected text as value and description", path=path)
        yield PolicyRule(member=name, pcr=pcr, kind=kind, prefix=prefix, value=str(value), description=description)


def _judge(rule: PolicyRule, events: list[ExpectedEvent] | None, flat: set[bytes]) -> RuleVerdict:
    return (_judge_binary if rule.kind == "binary" else _judge_ascii)(rule, events, flat)


def _judge_binary(rule: PolicyRule, events: list[ExpectedEvent] | None, flat: set[bytes]) -> RuleVerdict:
    if _SHA1.fullmatch(rule.value) is None:
        return RuleVerdict(rule=rule, verdict="broken", reasons=("not a SHA-1 digest of 40 lower-case digits",))
    reasons = ["SHA-1 alone: no bank that is to be trusted has it"]
    value = bytes.fromhex(rule.value)
    if events is not None:
        hits = [event for event in events if event.pcr == rule.pcr and event.digests.get("sha1") == value]
        if hits:
            return RuleVerdict(
                rule=rule, verdict="matches", reasons=(*reasons, "is the SHA-1 of an event of the release")
            )
    if rule.member in {"grub_loader.config", "grub_modules.config"} or _BIOS.search(rule.description):
        what = "a part of GRUB for BIOS" if rule.member != "grub_modules.config" else "a GRUB module for BIOS"
        reasons.append(
            f"{what}: UEFI firmware measures the whole GRUB program, by its Authenticode digest, into PCR 4, "
            "and its modules are inside it"
        )
        return RuleVerdict(rule=rule, verdict="never", reasons=tuple(reasons))
    if rule.pcr == 4:
        reasons.append("a digest of a file in PCR 4: UEFI measures programs by their Authenticode digest")
        return RuleVerdict(rule=rule, verdict="never", reasons=tuple(reasons))
    if value in flat:
        reasons.append("a file of the release, but in another register")
    if events is None:
        return RuleVerdict(rule=rule, verdict="possible", reasons=(*reasons, "no manifest was given to try it on"))
    return RuleVerdict(rule=rule, verdict="unmatched", reasons=(*reasons, "no event of the release has it"))


def _judge_ascii(rule: PolicyRule, events: list[ExpectedEvent] | None, _flat: set[bytes]) -> RuleVerdict:
    if "\\\\" in rule.value:
        reason = "a doubled backslash in the pattern asks for a backslash in the text, which is not there"
        return RuleVerdict(rule=rule, verdict="broken", reasons=(reason,))
    try:
        pattern = re.compile(rule.value)
    except (re.error, RecursionError, OverflowError) as error:
        return RuleVerdict(rule=rule, verdict="broken", reasons=(f"not a regular expression: {error}",))
    reasons = ["a pattern over text: the whole text has to be matched, else anything may follow (A44)"]
    if rule.pcr != 8:
        return RuleVerdict(rule=rule, verdict="never", reasons=(*reasons, "GRUB measures text into PCR 8 alone"))
    prefix = next((known for known in PREFIXES if known.split(":")[0] == rule.prefix.strip().rstrip(":")), None)
    if rule.prefix and prefix is None:
        reasons.append(
            f"the prefix {rule.prefix!r} is that of an old GRUB; today's are {' and '.join(map(repr, PREFIXES))}"
        )
        return RuleVerdict(rule=rule, verdict="never", reasons=tuple(reasons))
    if events is None:
        return RuleVerdict(rule=rule, verdict="possible", reasons=(*reasons, "no manifest was given to try it on"))
    if not _cheap(rule.value):
        return RuleVerdict(rule=rule, verdict="possible", reasons=(*reasons, "too costly a pattern to try"))
    for event in events:
        text = event.text
        if event.pcr == 8 and text is not None and len(text) <= TEXT_LIMIT and pattern.fullmatch(_bare(text)):
            return RuleVerdict(rule=rule, verdict="matches", reasons=(*reasons, f"matches {text[:80]!r}"))
    return RuleVerdict(rule=rule, verdict="unmatched", reasons=(*reasons, "matches no event of the release whole"))


def _bare(text: str) -> str:
    return next((text.removeprefix(prefix) for prefix in PREFIXES if text.startswith(prefix)), text)


def _cheap(pattern: str) -> bool:
    """Whether trying the pattern cannot take long: no repeated groups, back references, and few repetitions."""
    plain = re.sub(r"\\.", "x", pattern)
    plain = re.sub(r"\[[^]]*\]", "x", plain)
    if re.search(r"\)[*+{]|\(\?(?!:)", plain) or re.search(r"\\[0-9]", pattern):
        return False
    return len(pattern) <= TEXT_LIMIT and len(re.findall(r"[*+{]", plain)) <= 2
