"""The YAML that tpm2-tools' ``tpm2_eventlog`` prints, for programs that read it.

The same documents, of both its versions and with its three forms of device paths, without its faults: long data is
not cut off, no log crashes it, a log in the SHA-1 format has a list of events and not one mapping in which all have the
same keys, text is escaped, and registers are replayed with the startup locality and without EV_NO_ACTION. The last is an
option, because whoever compares with a ``tpm2_eventlog`` of version 5.4 needs its values.

A text rendering is nothing to verify anything by: digests are, and those are better read from the log.
"""

from __future__ import annotations

from typing import Any, Literal

from measlog.errors import ReplayError
from measlog.formats.cursor import decode_text
from measlog.interop.efivar import format_path
from measlog.interop.yamltext import Hex, dump
from measlog.log import Event, EventLog
from measlog.records import (
    BootOrder,
    DevicePath,
    FirmwareBlob,
    FirmwareBlob2,
    GptEvent,
    ImageLoadEvent,
    LoadOption,
    Record,
    SignatureData,
    SignatureLists,
    SpecIdEvent,
    StartupLocality,
    Undecodable,
    VariableData,
)
from measlog.records.ipl import IplText
from measlog.registry import ALGORITHMS_BY_NAME, EventType, algorithm_name, hash_constructor

__all__ = ["DevicePaths", "to_yaml"]

DevicePaths = Literal["raw", "efivar37", "efivar39"]

_E = EventType
_VARIABLES = frozenset(
    {
        _E.EV_EFI_VARIABLE_DRIVER_CONFIG,
        _E.EV_EFI_VARIABLE_BOOT,
        _E.EV_EFI_VARIABLE_BOOT2,
        _E.EV_EFI_VARIABLE_AUTHORITY,
    }
)
_TEXTS = frozenset({_E.EV_EFI_ACTION, _E.EV_EFI_HCRTM_EVENT})
_BLOBS = frozenset({_E.EV_POST_CODE, _E.EV_S_CRTM_CONTENTS, _E.EV_EFI_PLATFORM_FIRMWARE_BLOB})


def to_yaml(
    log: EventLog,
    *,
    version: Literal[1, 2] = 1,
    device_paths: DevicePaths = "raw",
    tpm2tools_replay: bool = False,
) -> str:
    """The document that ``tpm2_eventlog --eventlog-version VERSION`` prints for this log.

    Version 1 leaves variables, partition tables and the startup locality in hex, version 2 decodes them.
    ``device_paths``: in hex, or as efivar 37 or 39 prints them. ``tpm2tools_replay`` gives the register values of
    tpm2-tools 5.4, which in crypto-agile logs extends EV_NO_ACTION and does not know the startup locality. A bank that
    cannot be replayed is left out. Raises ValueError for another version or form of device paths.
    """
    if version not in {1, 2}:
        raise ValueError(f"there is no version {version} of this document")
    if device_paths not in {"raw", "efivar37", "efivar39"}:
        raise ValueError(f"no form of device paths is called {device_paths}")
    writer = _Writer(version, device_paths)
    events = [writer.event(event, log) for event in log]
    return dump({"version": version, "events": events, "pcrs": _registers(log, as_tpm2tools=tpm2tools_replay)})


def _registers(log: EventLog, *, as_tpm2tools: bool) -> dict[str, dict[int, Hex]]:
    banks: dict[str, dict[int, Hex]] = {}
    for name in log.algorithms:
        values: dict[int, bytes] = {}
        if as_tpm2tools:
            values = _tpm2tools_replay(log, name)
        else:
            try:
                bank = log.replay(name)
            except ReplayError:
                continue
            values = {index: bank[index] for index in bank}
        if values:
            banks[name] = {i: Hex(int.from_bytes(v, "big"), 2 * len(v)) for i, v in sorted(values.items())}
    return banks


def _tpm2tools_replay(log: EventLog, name: str) -> dict[int, bytes]:
    known, new = ALGORITHMS_BY_NAME.get(name), hash_constructor(name)
    values: dict[int, bytes] = {}
    if known is None or new is None:
        return values
    for event in log:
        digest = event.digests.get(name)
        if digest is None or event.register.kind != "pcr":
            continue
        if event.type is EventType.EV_NO_ACTION and log.kind == "sha1":
            continue
        index = event.register.index
        start = bytes(known.size)
        values[index] = new(values.get(index, start) + digest).digest()
    return values


class _Writer:
    """One document's choices."""

    def __init__(self, version: int, device_paths: DevicePaths) -> None:
        self.decoded = version == 2
        self.device_paths = device_paths

    def event(self, event: Event, log: EventLog) -> dict[str, Any]:
        data = event.data
        agile = log.kind != "sha1"
        vendor_info = log.spec_id.vendor_info if log.spec_id is not None else b""
        head: dict[str, Any] = {"EventNum": event.index} if agile else {}
        head |= {"PCRIndex": event.register.index, "EventType": event.type.name}
        if isinstance(data, SpecIdEvent) and data.signature == "Spec ID Event03" and agile and event.index == 0:
            return {
                **head,
                "Digest": bytes(20).hex(),
                "EventSize": len(event.raw),
                "SpecID": [_spec_id(data, vendor_info)],
            }
        digests = [{"AlgorithmId": name, "Digest": digest.hex()} for name, digest in event.digests.items()]
        head |= {"DigestCount": len(digests), "Digests": digests, "EventSize": len(event.raw)}
        if event.raw:
            head["Event"] = self._data(event, data)
        return head

    def _data(self, event: Event, data: Record) -> object:
        if isinstance(data, Undecodable):
            return event.raw.hex()
        if event.type in _VARIABLES and isinstance(data, VariableData):
            return self._variable(event.type, data)
        if event.type in _BLOBS:
            if isinstance(data, FirmwareBlob):
                return {"BlobBase": Hex(data.base), "BlobLength": Hex(data.length)}
            return decode_text(event.raw)
        if isinstance(data, FirmwareBlob2):
            description = data.description.encode("utf-8", "surrogateescape")
            return {
                "BlobDescriptionSize": len(description),
                "BlobDescription": description.hex(),
                "BlobBase": Hex(data.base),
                "BlobLength": Hex(data.length),
            }
        if event.type in _TEXTS:
            return decode_text(event.raw)
        if event.type is EventType.EV_IPL or isinstance(data, IplText):
            return {"String": decode_text(event.raw)}
        if isinstance(data, ImageLoadEvent):
            return self._image(event, data)
        if isinstance(data, GptEvent) and event.type is EventType.EV_EFI_GPT_EVENT and self.decoded:
            return _gpt(data)
        if isinstance(data, StartupLocality) and self.decoded:
            return {"StartupLocality": data.locality}
        return event.raw.hex()

    def _image(self, event: Event, data: ImageLoadEvent) -> dict[str, Any]:
        path = data.device_path
        return {
            "ImageLocationInMemory": Hex(data.location),
            "ImageLengthInMemory": data.length,
            "ImageLinkTimeAddress": Hex(data.link_time_address),
            "LengthOfDevicePath": len(path.to_bytes()),
            # In hex it is all that is left of the event, whatever its length says.
            "DevicePath": self._path(path, event.raw[32:]),
        }

    def _path(self, path: Record | None, raw: bytes) -> str:
        if self.device_paths == "raw" or not isinstance(path, DevicePath):
            return raw.hex()
        return format_path(path.nodes, self.device_paths)

    def _variable(self, kind: EventType, data: VariableData) -> dict[str, Any]:
        said: dict[str, Any] = {
            "VariableName": str(data.guid),
            "UnicodeNameLength": len(data.name.encode("utf-16-le", "surrogatepass")) // 2,
            "VariableDataLength": len(data.value),
            "UnicodeName": data.name,
        }
        decoded = self._value(kind, data) if self.decoded else _HEX
        if decoded is not _HEX:
            said["VariableData"] = decoded
        elif data.value:
            said["VariableData"] = data.value.hex()
        return said

    def _value(self, kind: EventType, data: VariableData) -> object:
        value = data.decoded
        if kind is EventType.EV_EFI_VARIABLE_DRIVER_CONFIG:
            if data.name in {"PK", "KEK", "db", "dbx"}:
                return _lists(value) if isinstance(value, SignatureLists) else None if not data.value else _HEX
            if data.name == "SecureBoot" and len(data.value) <= 1:
                return _enabled(on=any(data.value))
        elif kind is EventType.EV_EFI_VARIABLE_AUTHORITY:
            if data.name == "MokListTrusted" and len(data.value) <= 1:
                return _enabled(on=any(data.value))
            if data.name in {"db", "Shim"} and isinstance(value, SignatureData):
                return [{"SignatureOwner": str(value.owner), "SignatureData": value.data.hex()}]
            if data.name == "SbatLevel":
                return {"String": decode_text(data.value)}
        elif isinstance(value, BootOrder):
            return [f"Boot{number:04x}" for number in value.options]
        elif isinstance(value, LoadOption):
            return self._option(data.value, value)
        return _HEX

    def _option(self, raw: bytes, option: LoadOption) -> dict[str, Any]:
        description = option.description.encode("utf-16-le", "surrogatepass")
        return {
            **_enabled(on=option.active),
            "FilePathListLength": sum(len(path.to_bytes()) for path in option.file_path_list),
            "Description": option.description,
            # In hex it includes the optional data.
            "DevicePath": self._path(option.device_path, raw[6 + len(description) + 2 :]),
        }


_HEX = object()


def _enabled(*, on: bool) -> dict[str, Any]:
    return {"Enabled": "Yes" if on else "No"}


def _lists(value: SignatureLists) -> list[dict[str, Any]]:
    return [
        {
            "SignatureType": str(item.type),
            "SignatureListSize": len(item.to_bytes()),
            "SignatureHeaderSize": len(item.header),
            "SignatureSize": item.signature_size,
            "Keys": [{"SignatureOwner": str(s.owner), "SignatureData": s.data.hex()} for s in item.signatures],
        }
        for item in value.lists
    ]


def _spec_id(data: SpecIdEvent, vendor_info: bytes) -> dict[str, Any]:
    said: dict[str, Any] = {
        "Signature": data.signature,
        "platformClass": data.platform_class,
        "specVersionMinor": data.spec_version_minor,
        "specVersionMajor": data.spec_version_major,
        "specErrata": data.spec_errata,
        "uintnSize": data.uintn_size,
        "numberOfAlgorithms": len(data.algorithms),
        "Algorithms": [
            {f"Algorithm[{index}]": None, "algorithmId": algorithm_name(number), "digestSize": size}
            for index, (number, size) in enumerate(data.algorithms)
        ],
        "vendorInfoSize": data.vendor_info_size or 0,
    }
    if vendor_info:
        # From the framing: a log is known that leaves it outside the event.
        said["vendorInfo"] = vendor_info.hex()
    return said


def _gpt(data: GptEvent) -> dict[str, Any]:
    header = data.header
    return {
        "Header": {
            "Signature": header.signature.decode("latin-1"),
            "Revision": Hex(header.revision),
            "HeaderSize": header.header_size,
            "HeaderCRC32": Hex(header.header_crc32),
            "MyLBA": Hex(header.my_lba),
            "AlternateLBA": Hex(header.alternate_lba),
            "FirstUsableLBA": Hex(header.first_usable_lba),
            "LastUsableLBA": Hex(header.last_usable_lba),
            "DiskGUID": str(header.disk_guid),
            "PartitionEntryLBA": Hex(header.partition_entry_lba),
            "NumberOfPartitionEntry": header.number_of_partition_entries,
            "SizeOfPartitionEntry": header.size_of_partition_entry,
            "PartitionEntryArrayCRC32": Hex(header.partition_entry_array_crc32),
        },
        "NumberOfPartitions": len(data.partitions),
        "Partitions": [
            {
                "PartitionTypeGUID": str(entry.type_guid),
                "UniquePartitionGUID": str(entry.unique_guid),
                "StartingLBA": Hex(entry.starting_lba),
                "EndingLBA": Hex(entry.ending_lba),
                "Attributes": Hex(entry.attributes),
                "PartitionName": entry.name,
            }
            for entry in data.partitions
        ],
    }
