r"""The policy of a measured boot as Keylime stores it: one JSON text with everything that an evaluation needs.

::

    {"format": "measlog.keylime/1",
     "manifests": [<signed manifest>, ...], "manifest_keys": ["-----BEGIN PUBLIC KEY-----...", ...],
     "minimum_version": 4081000000, "baselines": [<baseline>, ...],
     "policy": "format = \"measlog.policy/1\"..."}

``manifests`` are DSSE envelopes as ``measlog manifest sign`` writes them, ``baselines`` what ``measlog baseline learn``
writes, ``policy`` a policy in TOML. In place of all of these there may be a ``reference_state``, one of Keylime's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Self

from attrs import field, frozen

from measlog.appraisal.baseline import Baseline
from measlog.appraisal.policy import Policy, UnsafeAcceptAll, leaves
from measlog.appraisal.policy_file import load_policy
from measlog.appraisal.rules.platform import OpenEnded
from measlog.appraisal.verifier import Verifier
from measlog.errors import FormatError, ManifestError, PolicyError
from measlog.interop.keylime.refstate import KeylimeState
from measlog.reference.manifest import ReferenceManifest, canonical_json, parse_json
from measlog.reference.signing import SignedManifest, check_in_force

__all__ = ["FORMAT", "KeylimePolicy", "policy_document", "state_document"]

FORMAT = "measlog.keylime/1"
SIZE_LIMIT = 64 << 20
"""In bytes. What Keylime's database takes is larger."""

_MOST = 256
_KEYS = frozenset({"format", "manifests", "manifest_keys", "minimum_version", "baselines", "policy"})


@frozen(kw_only=True, slots=False)
class KeylimePolicy:
    """A policy that was read, whose manifests were verified, and that checks something."""

    policy: Policy
    manifests: tuple[ReferenceManifest, ...] = field(repr=lambda found: f"<{len(found)}>")
    baselines: tuple[Baseline, ...] = field(repr=lambda found: f"<{len(found)}>")

    @classmethod
    def from_json(cls, data: bytes | str, *, now: datetime | None = None) -> Self:
        """Read the text that Keylime stores.

        Raises :class:`~measlog.errors.PolicyError` for what is no such text or would accept everything, and
        :class:`~measlog.errors.ManifestError` where a manifest is not signed by the keys beside it or not in force at
        ``now``.
        """
        document = _read(data)
        if "reference_state" in document:
            _only(document, {"format", "reference_state"})
            try:
                state = KeylimeState.from_document(document["reference_state"], path="reference_state")
            except FormatError as error:
                raise PolicyError(str(error)) from None
            made = cls(policy=state.policy(), manifests=(), baselines=())
        else:
            _only(document, _KEYS)
            made = cls(
                policy=_policy(document),
                manifests=tuple(_manifests(document, now)),
                baselines=tuple(_baselines(document)),
            )
            # Without a reference no register is compared with anything (A41).
            if not made.manifests and not made.baselines:
                raise PolicyError("manifests: neither a manifest nor a baseline: there is nothing to compare with")
        _refuse_idle(made.policy)
        return made

    @cached_property
    def verifier(self) -> Verifier:
        """What appraises by this policy."""
        return Verifier(self.manifests, baselines=self.baselines, policy=self.policy)

    def check_in_force(self, now: datetime | None = None) -> None:
        """Raise :class:`~measlog.errors.ManifestError` unless every manifest is still in force at ``now``."""
        for manifest in self.manifests:
            check_in_force(manifest, now, None, what="manifest")


def policy_document(
    *,
    policy: bytes | str,
    manifests: Sequence[bytes] = (),
    keys: Sequence[bytes | str] = (),
    minimum_version: int | None = None,
    baselines: Iterable[Baseline] = (),
    now: datetime | None = None,
) -> bytes:
    """The text for Keylime, of signed manifests, the PEM keys that verify them, a policy in TOML, and baselines.

    It is read back before it is returned, so that nothing is written that would be refused later: the errors are those
    of :meth:`KeylimePolicy.from_json`, and :class:`~measlog.errors.ManifestError` for a manifest that is no JSON.
    """
    document: dict[str, Any] = {
        "format": FORMAT,
        "manifests": [parse_json(data, what="envelope", size=SIZE_LIMIT) for data in manifests],
        "manifest_keys": [key if isinstance(key, str) else key.decode("ascii", "replace") for key in keys],
        "baselines": [json.loads(baseline.to_json()) for baseline in baselines],
        "policy": policy if isinstance(policy, str) else policy.decode("utf-8", "replace"),
    }
    if minimum_version is not None:
        document["minimum_version"] = minimum_version
    try:
        text = canonical_json(document) + b"\n"
    except UnicodeEncodeError as error:
        raise ManifestError(f"a manifest holds text that is no Unicode: {error.reason}") from None
    KeylimePolicy.from_json(text, now=now)
    return text


def state_document(state: KeylimeState) -> bytes:
    """The text for Keylime, of one of its own reference states, that this library evaluates."""
    text = canonical_json({"format": FORMAT, "reference_state": state.to_document()}) + b"\n"
    KeylimePolicy.from_json(text)
    return text


def _read(data: bytes | str) -> dict[str, Any]:
    try:
        raw = data.encode() if isinstance(data, str) else data
        document = parse_json(raw, what="policy", size=SIZE_LIMIT)
    except (UnicodeEncodeError, ManifestError) as error:
        raise PolicyError(str(error)) from None
    if document.get("format") != FORMAT:
        hint = "; a reference state of Keylime's goes into reference_state" if "kernels" in document else ""
        raise PolicyError(f"format: expected {FORMAT!r}{hint}")
    return document


def _only(document: Mapping[str, Any], known: Iterable[str]) -> None:
    for key in sorted(document.keys() - set(known)):
        raise PolicyError(f"{key[:60]!r} is not known here")


def _list(document: Mapping[str, Any], name: str) -> list[Any]:
    value = document.get(name, [])
    if not isinstance(value, list) or len(value) > _MOST:
        raise PolicyError(f"{name}: expected a list of at most {_MOST}")
    return value


def _policy(document: Mapping[str, Any]) -> Policy:
    text = document.get("policy")
    if not isinstance(text, str):
        raise PolicyError("policy: expected a policy in TOML")
    try:
        return load_policy(text.encode("utf-8", "surrogatepass"))
    except PolicyError as error:
        raise PolicyError(f"policy: {error}") from None


def _manifests(document: Mapping[str, Any], now: datetime | None) -> Iterator[ReferenceManifest]:
    keys = _list(document, "manifest_keys")
    if not all(isinstance(key, str) for key in keys):
        raise PolicyError("manifest_keys: expected keys as PEM")
    floor = document.get("minimum_version")
    if floor is not None and (type(floor) is not int or floor < 0):
        raise PolicyError("minimum_version: expected a number")
    for index, envelope in enumerate(_list(document, "manifests")):
        if not isinstance(envelope, dict):
            raise PolicyError(f"manifests[{index}]: expected a signed manifest")
        try:
            signed = SignedManifest.from_bytes(canonical_json(envelope))
            yield signed.verify(keys=keys, now=now, minimum_version=floor)
        except (ManifestError, UnicodeEncodeError) as error:
            raise ManifestError(f"manifests[{index}]: {error}") from None


def _baselines(document: Mapping[str, Any]) -> Iterator[Baseline]:
    for index, item in enumerate(_list(document, "baselines")):
        if not isinstance(item, dict):
            raise PolicyError(f"baselines[{index}]: expected a baseline")
        try:
            yield Baseline.from_json(canonical_json(item))
        except (ManifestError, UnicodeEncodeError) as error:
            raise ManifestError(f"baselines[{index}]: {error}") from None


def _refuse_idle(policy: Policy) -> None:
    """Refuse a policy that cannot fail: nothing passes because nothing was checked (A41)."""
    rules = tuple(leaves(policy.rule))
    if any(isinstance(rule, UnsafeAcceptAll) for rule in rules):
        raise PolicyError("policy: unsafe-accept-all accepts everything")
    if all(rule.severity == "info" or isinstance(rule, OpenEnded) for rule in rules):
        raise PolicyError("policy: no rule can fail: each is of severity info, or leaves its registers open")
