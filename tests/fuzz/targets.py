"""What is fuzzed: functions of bytes that may raise ``FormatError`` and nothing else.

One sentence for all of them: any bytes give a value or a FormatError. Shared by the atheris harness, by the seeded
mutation run in ``benchmarks/mutate.py`` and by the test that goes through what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import frozen

from measlog import EventLog
from measlog.errors import FormatError, ReplayError, SignatureError
from measlog.evidence.quote import Quote
from measlog.formats.blocks import BytesBlocks
from measlog.formats.fat import FatVolume
from measlog.formats.gpt import Gpt
from measlog.formats.sevsnp import parse_snp_report
from measlog.formats.tdx import parse_tdx_quote
from measlog.formats.tpm2 import parse_attest, parse_pcr_file, parse_public, parse_signature
from measlog.interop import cbor
from measlog.interop.cel import CelLog
from measlog.interop.corim import Corim, SignedCorim
from measlog.interop.goattestation import AttestToolDump
from measlog.interop.gotdx import raw_quote
from measlog.interop.gotpmtools import GoTpmToolsAttestation
from measlog.interop.hcl import HclReport
from measlog.interop.ima import ImaLog
from measlog.interop.ima.allow import AllowList
from measlog.interop.nitrotpm import NitroTpmDocument
from measlog.interop.pcrlock import read_component, write_component
from measlog.interop.systemdlog import read_userspace_log, write_userspace_log
from measlog.interop.tpm2tools import to_yaml
from measlog.records import DevicePath, Record, SignatureLists, Undecodable, VariableData, decode
from measlog.records.ipl import IplText
from measlog.reference.authenticode import authenticode_digests
from measlog.reference.kernelconfig import BuiltInCommandLine, read_built_in
from measlog.registry import EventType, Register
from measlog.replay.digests import check, trust

__all__ = ["FAMILIES", "TARGETS", "Target", "fuzz"]

Target = Callable[[bytes], object]
E = EventType

FAMILIES: Mapping[str, tuple[EventType, Register]] = {
    "no_action": (E.EV_NO_ACTION, Register("pcr", 0)),
    "trust_point": (E.EV_NO_ACTION, Register("none", 0xFFFFFFFF)),
    "separator": (E.EV_SEPARATOR, Register("pcr", 0)),
    "version": (E.EV_S_CRTM_VERSION, Register("pcr", 0)),
    "post_code": (E.EV_POST_CODE, Register("pcr", 0)),
    "blob2": (E.EV_EFI_PLATFORM_FIRMWARE_BLOB2, Register("pcr", 0)),
    "handoff2": (E.EV_EFI_HANDOFF_TABLES2, Register("pcr", 1)),
    "variable": (E.EV_EFI_VARIABLE_DRIVER_CONFIG, Register("pcr", 7)),
    "boot": (E.EV_EFI_VARIABLE_BOOT, Register("pcr", 1)),
    "authority": (E.EV_EFI_VARIABLE_AUTHORITY, Register("pcr", 7)),
    "image": (E.EV_EFI_BOOT_SERVICES_APPLICATION, Register("pcr", 4)),
    "gpt_event": (E.EV_EFI_GPT_EVENT, Register("pcr", 5)),
    "tagged": (E.EV_EVENT_TAG, Register("pcr", 13)),
    "ipl_grub": (E.EV_IPL, Register("pcr", 8)),
    "ipl_stub": (E.EV_IPL, Register("pcr", 12)),
    "spdm": (E.EV_EFI_SPDM_FIRMWARE_BLOB, Register("pcr", 2)),
}
"""Families of payloads, each by a type and a register that lead to it."""


def _payload(kind: EventType, register: Register) -> Target:
    def run(data: bytes) -> object:
        record = decode(kind, register, data)
        assert record.to_bytes() == data
        found = check(kind, register, data, "sha256", bytes(32))
        for name in record.spans:
            start, end = record.spans[name]
            assert 0 <= start <= end <= len(data)
            assert trust(record, found, name) == "unauthenticated"
        _look_inside(record)
        if isinstance(record, Undecodable):
            # Only so that a run can tell how much of what it made was read.
            raise FormatError(record.reason)
        return record

    return run


def _look_inside(record: Record) -> None:
    repr(record)
    path = getattr(record, "device_path", None)
    if isinstance(path, DevicePath):
        assert DevicePath.from_text(path.text).to_bytes().startswith(path.to_bytes())
    if isinstance(record, IplText):
        assert isinstance(record.text, str)
    if isinstance(record, VariableData):
        _look_inside(record.decoded)
        if isinstance(record.decoded, SignatureLists):
            for item in record.decoded.lists:
                for signature in item.signatures[:2]:
                    if item.type_name == "EFI_CERT_X509":
                        _expect_format_error(lambda s=signature: s.certificate)  # type: ignore[misc]
                if "X509_SHA" in item.type_name:
                    _expect_format_error(item.x509_hashes)


def _expect_format_error(read: Callable[[], object]) -> None:
    try:
        read()
    except FormatError:
        return


def _log(data: bytes) -> object:
    log = EventLog.from_bytes(data)
    assert log.to_bytes() == data
    for event in log:
        assert event.data.to_bytes() == event.raw
        for name in event.digests:
            event.check(name)
    for name in log.algorithms:
        try:
            log.replay(name)
        except ReplayError:
            continue
    return log.anomalies


def _framing(data: bytes) -> object:
    return EventLog.from_bytes(data).anomalies


def _yaml(data: bytes) -> object:
    return to_yaml(EventLog.from_bytes(data), version=2, device_paths="efivar39")


def _text(data: bytes) -> object:
    path = DevicePath.from_text(data.decode("latin-1"))
    assert DevicePath.from_text(path.text) == path
    return path


def _quote(data: bytes) -> object:
    # The first byte says where the statement ends and the signature begins.
    size = data[0] if data else 0
    return Quote.from_bytes(data[1 : 1 + size], data[1 + size :])


def _ima(data: bytes) -> object:
    log = ImaLog.from_bytes(data)
    assert log.to_bytes() == data
    return _entries(log)


def _ima_ascii(data: bytes) -> object:
    log = ImaLog.from_ascii(data)
    assert ImaLog.from_bytes(log.to_bytes(), template_hash=log.template_hash).to_bytes() == log.to_bytes()
    return _entries(log)


def _entries(log: ImaLog) -> object:
    for entry in log:
        repr(entry)
        assert (entry.check() == "violation") == entry.violation
        assert entry.name is not None
        for name in entry.fields:
            entry.trust(name)
    for bank in log.extends:
        try:
            log.replay(bank)
        except ReplayError:
            continue
    return log.templates


def _cel(read: Callable[[bytes], CelLog], write: Callable[[CelLog], bytes]) -> Target:
    def run(data: bytes) -> object:
        log = read(data)
        assert read(write(log)) == log
        for record in log:
            assert isinstance(record.text, str)
        _expect_format_error(log.to_log)
        return log.numbering

    return run


@frozen
class _Padded:
    """A volume of 4 MiB of which only the beginning is given; the rest is zero."""

    head: BytesBlocks
    size: int = 4 << 20

    def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise FormatError("outside of the volume", offset=offset)
        part = self.head.data[offset : offset + length]
        return bytes(part).ljust(length, b"\0")


def _fat(data: bytes) -> object:
    volume = FatVolume.from_blocks(_Padded(BytesBlocks(data)))
    for file in volume.files()[:20]:
        if not file.is_directory and file.size < 1 << 20:
            _expect_format_error(lambda f=file: volume.read(f))  # type: ignore[misc]
    return volume


def _kernel(data: bytes) -> BuiltInCommandLine:
    found = read_built_in(data, "amd64")
    assert (found.text is None) == (found.unread is not None)
    return found


def _hcl(data: bytes) -> object:
    read = HclReport.from_bytes(data)
    try:
        read.unsafe_claimed_ak()
    except SignatureError:
        raise FormatError("no attestation key") from None
    return read


def _cbor(data: bytes) -> object:
    value = cbor.decode(data)
    assert cbor.decode(cbor.encode(value)) == value
    return value


def _userspace_log(data: bytes) -> object:
    records = read_userspace_log(data)
    assert read_userspace_log(write_userspace_log(records)) == records
    return records


def _component(data: bytes) -> object:
    records = read_component(data)
    assert read_component(write_component(records)) == records
    return records


TARGETS: Mapping[str, Target] = {
    "log": _log,
    "framing": _framing,
    "yaml": _yaml,
    **{name: _payload(kind, register) for name, (kind, register) in FAMILIES.items()},
    "device_path_text": _text,
    "attest": parse_attest,
    "signature": parse_signature,
    "public": parse_public,
    "pcr_file": parse_pcr_file,
    "quote": _quote,
    "pe": authenticode_digests,
    "fat": _fat,
    "kernel": _kernel,
    "attest_tool_dump": AttestToolDump.from_json,
    "go_tpm_tools": GoTpmToolsAttestation.from_bytes,
    "cbor": _cbor,
    "corim": Corim.unsafe_from_unsigned,
    "signed_corim": SignedCorim.from_bytes,
    "tdx_quote": parse_tdx_quote,
    "snp_report": parse_snp_report,
    "go_tdx_guest": raw_quote,
    "hcl_report": _hcl,
    "nitrotpm": NitroTpmDocument.from_bytes,
    "userspace_log": _userspace_log,
    "pcrlock": _component,
    "gpt": lambda data: Gpt.read(BytesBlocks(data)),
    "ima": _ima,
    "ima_ascii": _ima_ascii,
    "ima_allow": AllowList.from_text,
    "cel_json": _cel(CelLog.from_json, CelLog.to_json),
    "cel_cbor": _cel(CelLog.from_cbor, CelLog.to_cbor),
    "cel_tlv": _cel(CelLog.from_tlv, CelLog.to_tlv),
}


def fuzz(target: Target, data: bytes) -> bool:
    """Run a target; whether the bytes were read. Anything but a FormatError goes on its way."""
    try:
        target(data)
    except FormatError:
        return False
    return True
