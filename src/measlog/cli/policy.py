"""Policies by name or from a TOML file.

A file has one table, ``[flatcar]``, with the arguments of :func:`measlog.appraisal.policy.flatcar`::

    [flatcar]
    secure_boot = true
    allowed_arguments = ["flatcar.oem.id=qemu"]
    oem_grub_cfg = ["oem-grub.cfg"]          # files, found from the policy's own folder
    minimum_sbat = { shim = 4, grub = 5 }
    minimum_dbx = ["<sha256 in hex>"]
    allow_mok = false
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from measlog.appraisal.policy import Policy, flatcar
from measlog.cli.errors import InputError, about
from measlog.cli.files import KEY_LIMIT, read
from measlog.errors import PolicyError

__all__ = ["NAMES", "load_policy"]

NAMES: Mapping[str, Callable[[], Policy]] = {
    "flatcar": lambda: flatcar(secure_boot=True),
    "flatcar-secure-boot-off": lambda: flatcar(secure_boot=False),
}

_SHA256 = re.compile("[0-9a-f]{64}")


def load_policy(name: str) -> Policy:
    """The policy of that name; else the one in the file of that name."""
    known = NAMES.get(name)
    if known is not None:
        return known()
    data = read(name, KEY_LIMIT)
    with about(name):
        return _parse(data, Path(name).parent)


def _parse(data: bytes, folder: Path) -> Policy:
    try:
        document = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise PolicyError(f"not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"not TOML: {error}") from None
    if set(document) != {"flatcar"} or not isinstance(document["flatcar"], dict):
        raise PolicyError("a policy is one table, [flatcar]")
    options = document["flatcar"]
    unknown = sorted(set(options) - set(_READERS))
    if unknown:
        raise PolicyError(f"flatcar.{unknown[0]}: no such option; there are {', '.join(_READERS)}")
    made: dict[str, Any] = {name: _READERS[name](value, f"flatcar.{name}") for name, value in options.items()}
    if "oem_grub_cfg" in made:
        made["oem_grub_cfg"] = [_beside(folder, file) for file in made["oem_grub_cfg"]]
    return flatcar(**made)


def _beside(folder: Path, file: str) -> bytes:
    try:
        return read(folder / file, KEY_LIMIT)
    except InputError as error:
        raise PolicyError(f"flatcar.oem_grub_cfg: {error.message}") from None


def _flag(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise PolicyError(f"{path}: expected true or false")
    return value


def _texts(value: object, path: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise PolicyError(f"{path}: expected a list of texts that are not empty")
    return value


def _hashes(value: object, path: str) -> list[bytes]:
    texts = _texts(value, path)
    if not all(_SHA256.fullmatch(text) for text in texts):
        raise PolicyError(f"{path}: expected SHA-256 hashes of 64 lower-case hexadecimal digits")
    return [bytes.fromhex(text) for text in texts]


def _generations(value: object, path: str) -> dict[str, int]:
    if not isinstance(value, dict) or not all(type(item) is int and item > 0 for item in value.values()):
        raise PolicyError(f"{path}: expected a table of names with numbers from 1")
    return value


_READERS: Mapping[str, Callable[[object, str], Any]] = {
    "secure_boot": _flag,
    "allowed_arguments": _texts,
    "oem_grub_cfg": _texts,
    "minimum_sbat": _generations,
    "minimum_dbx": _hashes,
    "allow_mok": _flag,
    "allow_dma_disabled": _flag,
    "allow_boot_option_retries": _flag,
}
