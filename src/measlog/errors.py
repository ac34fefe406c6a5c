"""The errors that measlog raises.

Every error has a ``code``, a dotted lower-case word from the table in :mod:`measlog.codes`, that programs can rely on;
the message is for people. Bytes that cannot be read raise :class:`FormatError`; evidence that is not authentic raises
:class:`EvidenceError`; a manifest that is not authentic or not usable raises :class:`ManifestError`. An unfavourable
appraisal is a value, not an error.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "EvidenceError",
    "FormatError",
    "KeyTrustError",
    "LimitExceededError",
    "ManifestError",
    "MeaslogError",
    "MissingExtraError",
    "NonceError",
    "PcrDigestError",
    "PolicyError",
    "ReplayError",
    "SelectionError",
    "SignatureError",
    "TruncatedError",
    "UnsupportedError",
]


class MeaslogError(Exception):
    """Base of all errors that measlog raises on purpose."""

    code: ClassVar[str] = "error"


class FormatError(MeaslogError, ValueError):
    """Bytes that are not what their format demands.

    ``offset`` is in bytes from the start of the outermost structure that was handed over, ``path`` names the field
    (``events[17].digests[1]``), ``clause`` the place in the specification, each ``None`` where it does not apply.
    """

    code: ClassVar[str] = "format.invalid"

    def __init__(
        self, message: str, *, offset: int | None = None, path: str | None = None, clause: str | None = None
    ) -> None:
        super().__init__(message, offset, path, clause)
        self.message = message
        self.offset = offset
        self.path = path
        self.clause = clause

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_format_error, (type(self), self.message, self.offset, self.path, self.clause)

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        if self.offset is not None:
            text += f" at byte {self.offset}"
        if self.clause:
            text += f" ({self.clause})"
        return text

    def inside(self, path: str, offset: int = 0) -> FormatError:
        """The same error as seen from the enclosing structure, whose field ``path`` starts at byte ``offset``."""
        inner = self.path or ""
        joined = path + inner if inner.startswith("[") or not inner else f"{path}.{inner}"
        place = None if self.offset is None else self.offset + offset
        return type(self)(self.message, offset=place, path=joined, clause=self.clause)


def _rebuild_format_error(
    kind: type[FormatError], message: str, offset: int | None, path: str | None, clause: str | None
) -> FormatError:
    return kind(message, offset=offset, path=path, clause=clause)


class TruncatedError(FormatError):
    """The bytes end before the structure does."""

    code: ClassVar[str] = "format.truncated"


class LimitExceededError(FormatError):
    """The structure is larger than the :class:`measlog.Limits` in force allow."""

    code: ClassVar[str] = "format.limit"


class UnsupportedError(FormatError):
    """Well-formed as far as can be told, but of a kind or version that measlog does not read."""

    code: ClassVar[str] = "format.unsupported"


class EvidenceError(MeaslogError):
    """What the machine sent is not authentic, or does not fit together. ``check`` names the step that failed."""

    code: ClassVar[str] = "evidence.invalid"

    def __init__(self, message: str, *, check: str) -> None:
        super().__init__(message)
        self.check = check

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_evidence_error, (type(self), str(self), self.check)


def _rebuild_evidence_error(kind: type[EvidenceError], message: str, check: str) -> EvidenceError:
    return kind(message, check=check)


class SignatureError(EvidenceError):
    """The signature over the quote does not verify with the given key, or key or scheme are not acceptable."""

    code: ClassVar[str] = "evidence.signature"


class KeyTrustError(EvidenceError):
    """Nothing ties the attestation key to a TPM that is trusted."""

    code: ClassVar[str] = "evidence.key-trust"


class NonceError(EvidenceError):
    """The quote answers another nonce."""

    code: ClassVar[str] = "evidence.nonce"


class PcrDigestError(EvidenceError):
    """The register values do not hash to the digest in the quote."""

    code: ClassVar[str] = "evidence.pcr-digest"


class ReplayError(EvidenceError):
    """The log does not replay to the register values."""

    code: ClassVar[str] = "evidence.replay"


class SelectionError(EvidenceError):
    """The quote covers other banks or registers than the verifier asked for."""

    code: ClassVar[str] = "evidence.selection"


class ManifestError(MeaslogError, ValueError):
    """A reference manifest or baseline that is unsigned, forged, expired, rolled back or malformed."""

    code: ClassVar[str] = "manifest.invalid"


class PolicyError(MeaslogError, ValueError):
    """A policy that is malformed, unknown or checks nothing."""

    code: ClassVar[str] = "policy.invalid"


class MissingExtraError(MeaslogError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""

    code: ClassVar[str] = "extra.missing"

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package {package}: install measlog[{extra}]", name=package)
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.package, self.extra)
