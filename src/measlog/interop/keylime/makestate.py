"""A Keylime reference state from a manifest and a known-good machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from measlog.errors import ManifestError
from measlog.flatcar.boot import predict
from measlog.interop.keylime.refstate import StateFirmware, StateKernel, StateKey, unique
from measlog.records import VariableData
from measlog.records.signature_list import SignatureLists
from measlog.registry import EventType

if TYPE_CHECKING:
    from measlog.evidence import VerifiedEvidence
    from measlog.log import Event
    from measlog.reference.manifest import ReferenceManifest

__all__ = ["from_manifest"]

_E = EventType
_BLOBS = frozenset({_E.EV_EFI_PLATFORM_FIRMWARE_BLOB, _E.EV_EFI_PLATFORM_FIRMWARE_BLOB2})
_DATABASES = {"PK": "pk", "KEK": "kek", "db": "db", "dbx": "dbx"}


def from_manifest(manifest: ReferenceManifest, platform: VerifiedEvidence) -> dict[str, Any]:
    """The fields of :class:`~measlog.interop.keylime.KeylimeState`: see its ``from_manifest``.

    Raises :class:`~measlog.errors.ManifestError` where manifest or platform do not give them.
    """
    variables = {v.name: v for v in _variables(platform)}
    secure_boot = "SecureBoot" in variables and variables["SecureBoot"].value == b"\x01"
    shim = manifest.component("shim")
    kernels = unique(_kernels(manifest, secure_boot=secure_boot))
    if not kernels:
        raise ManifestError(f"manifest {manifest.name} decides no boot by shim and GRUB")
    return {
        "secure_boot": secure_boot,
        "firmware": (_firmware(platform),),
        **{field: tuple(_keys(variables.get(name))) for name, field in _DATABASES.items()},
        "mok_list": () if shim is None or shim.mok_list is None else (dict(shim.mok_list),),
        "mok_list_x": () if shim is None or shim.mok_list_x is None else (dict(shim.mok_list_x),),
        "kernels": kernels,
    }


def _events(platform: VerifiedEvidence, pcr: int) -> Iterator[Event]:
    return (e for e in platform.log if e.pcr == pcr and e.type is not _E.EV_NO_ACTION)


def _variables(platform: VerifiedEvidence) -> Iterator[VariableData]:
    if 7 not in platform.values:
        raise ManifestError("the quote of the platform does not cover PCR 7")
    for event in _events(platform, 7):
        if event.type is _E.EV_EFI_VARIABLE_DRIVER_CONFIG and isinstance(event.data, VariableData):
            if event.check(platform.bank).status != "matches":
                raise ManifestError(f"event {event.index} of the platform's log is not what was measured")
            yield event.data


def _keys(variable: VariableData | None) -> Iterator[StateKey]:
    if variable is not None and isinstance(variable.decoded, SignatureLists):
        for one in variable.decoded:
            for signature in one.signatures:
                yield StateKey(owner=signature.owner, data=signature.data)


def _firmware(platform: VerifiedEvidence) -> StateFirmware:
    if 0 not in platform.values:
        raise ManifestError("the quote of the platform does not cover PCR 0")
    versions = [e for e in _events(platform, 0) if e.type is _E.EV_S_CRTM_VERSION]
    if len(versions) != 1:
        raise ManifestError(f"the platform's log has {len(versions)} EV_S_CRTM_VERSION; a reference state holds one")
    bank = platform.bank
    blobs = tuple({bank: e.digests[bank]} for e in _events(platform, 0) if e.type in _BLOBS)
    return StateFirmware(scrtm={bank: versions[0].digests[bank]}, blobs=blobs)


def _kernels(manifest: ReferenceManifest, *, secure_boot: bool) -> Iterator[StateKernel]:
    for boot in predict(manifest, secure_boot=secure_boot):
        images = [e.digests["sha256"] for e in boot.of(4) if e.kind == "image"]
        files = [e for e in boot.of(9) if e.kind == "file"]
        place = boot.command_line
        if boot.slot is None or place is None or {4, 8, 9} & boot.unknown.keys() or len(images) < 2 + secure_boot:
            continue
        kernel = manifest.component("kernel", boot.slot) or manifest.component("kernel")
        assert kernel is not None  # it was predicted
        initrd = [e.digests["sha256"] for e in files if e.digests["sha256"] != kernel.flat["sha256"]]
        if len(initrd) > 1:
            continue  # a reference state has room for one
        yield StateKernel(
            shim=images[0],
            grub=images[1],
            kernel=kernel.authenticode["sha256"] if secure_boot else None,
            vmlinuz=None if secure_boot else kernel.flat["sha256"],
            initrd=initrd[0] if initrd else None,
            command_line=re.escape(boot.of(8)[place].text.rstrip(b"\0").decode("utf-8", "replace")),
        )
