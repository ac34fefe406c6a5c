"""Who vouches for a downloaded file: detached OpenPGP signatures and Flatcar's signed lists of digests."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from attrs.validators import instance_of

from measlog.errors import ManifestError, MissingExtraError

__all__ = ["OpenPgpKeys", "parse_digests"]

STRONG = ("SHA512", "SHA384", "SHA256")
"""The digests of a list that are good enough, the best first; MD5 and SHA-1 vouch for nothing."""
SIZES = {"SHA512": 128, "SHA384": 96, "SHA256": 64}
DIGESTS_LIMIT = 1 << 20


@frozen(kw_only=True)
class OpenPgpKeys:
    """The OpenPGP certificates that the caller trusts to sign releases, binary or armored, one or many."""

    certificates: bytes = field(validator=instance_of(bytes), repr=False)

    def check(self) -> None:
        """Read the certificates: ManifestError where there is none, MissingExtraError where pysequoia is not installed."""
        self._store(_sequoia())

    def verify_file(self, path: str, signature: bytes, *, what: str) -> str:
        """The fingerprint of the certificate whose detached ``signature`` the file at ``path`` has.

        ManifestError where it has none by one of the certificates, MissingExtraError where pysequoia is not installed.
        """
        return self._verify({"file": path}, signature, what)

    def verify_bytes(self, data: bytes, signature: bytes | None, *, what: str) -> tuple[bytes, str]:
        """The signed bytes and the fingerprint; without ``signature`` the data is a message signed in clear text."""
        if signature is not None:
            return data, self._verify({"bytes": data}, signature, what)
        sequoia = _sequoia()
        try:
            read = sequoia.verify(data, store=self._store(sequoia))
        except Exception as error:  # noqa: BLE001  (pysequoia has no error class of its own)
            raise _refused(what, error) from None
        return _content(read), _signer(read, what)

    def _verify(self, source: Mapping[str, Any], signature: bytes, what: str) -> str:
        sequoia = _sequoia()
        try:
            read = sequoia.verify(**source, store=self._store(sequoia), signature=sequoia.Sig.from_bytes(signature))
        except Exception as error:  # noqa: BLE001  (pysequoia has no error class of its own)
            raise _refused(what, error) from None
        return _signer(read, what)

    def _store(self, sequoia: Any) -> Any:
        try:
            known = sequoia.Cert.split_bytes(self.certificates)
        except Exception as error:  # noqa: BLE001  (pysequoia has no error class of its own)
            raise ManifestError(f"the OpenPGP keys cannot be read: {_line(error)}") from None
        if not known:
            raise ManifestError("no OpenPGP key was given to verify the download with")
        return lambda _ids: known


def _sequoia() -> Any:
    try:
        return importlib.import_module("pysequoia")
    except ImportError:
        raise MissingExtraError("pysequoia", "openpgp") from None


def _refused(what: str, error: Exception) -> ManifestError:
    # Whatever it raised, nothing was verified.
    if isinstance(error, ManifestError):
        return error
    return ManifestError(f"{what}: the OpenPGP signature is not good: {_line(error)}")


def _line(error: Exception) -> str:
    # pysequoia puts the addresses of its own code behind the sentence.
    return " ".join(str(error).partition("Stack backtrace:")[0].split())[:200]


def _content(read: Any) -> bytes:
    content = read.bytes
    return bytes(content or b"")


def _signer(read: Any, what: str) -> str:
    valid = list(read.valid_sigs)
    if not valid:
        raise ManifestError(f"{what}: no good OpenPGP signature by one of the keys given")
    return str(valid[0].certificate).upper()


def parse_digests(data: bytes, name: str) -> tuple[str, str]:
    """The strongest digest that a list (``.DIGESTS``) has for the file ``name``: hashlib's algorithm name, hexadecimal.

    The list has a heading ``# SHA512 HASH`` before the lines of each algorithm. ManifestError where the file is not in
    it, is there twice with different digests, or with weak ones alone.
    """
    if len(data) > DIGESTS_LIMIT:
        raise ManifestError(f"a list of digests of {len(data)} bytes, the most is {DIGESTS_LIMIT}")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise ManifestError(f"a list of digests that is not ASCII at byte {error.start}") from None
    heading = ""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"# ([A-Z0-9]+) HASH", line.strip()):
            heading = match[1]
            continue
        match = re.fullmatch(r"([0-9a-fA-F]{32,128}) [ *](\S+)", line.strip())
        if match is None or match[2] != name:
            continue
        if found.setdefault(heading, match[1].lower()) != match[1].lower():
            raise ManifestError(f"the list of digests has two {heading} digests of {name}")
    for algorithm in STRONG:
        if algorithm in found and len(found[algorithm]) == SIZES[algorithm]:
            return algorithm.lower(), found[algorithm]
    raise ManifestError(f"the list of digests has no SHA-256, SHA-384 or SHA-512 digest of {name}")
