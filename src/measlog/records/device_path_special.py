"""Text forms of device path nodes that are more than a name and the fields in order (UEFI 2.10, clause 10.6)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from measlog.records.device_path_codecs import (
    Fields,
    Kind,
    Reader,
    Writer,
    read_vendor,
    to_index,
    to_int,
    unquote,
    write_vendor,
)
from measlog.records.device_path_messaging import MESSAGING_READERS, MESSAGING_WRITERS

__all__ = ["SPECIAL_READERS", "SPECIAL_WRITERS"]

# EISA identifiers: three letters in 15 bits, a number in the upper 16 (ACPI 6.5, 6.1.5). PNP is 0x41D0.
_PNP = 0x41D0
_SHORT = {
    0x0A03: "PciRoot",
    0x0A08: "PcieRoot",
    0x0604: "Floppy",
    0x0301: "Keyboard",
    0x0501: "Serial",
    0x0401: "ParallelPort",
}


def _eisa(value: int) -> str:
    letters = "".join(chr(0x40 + ((value >> shift) & 0x1F)) for shift in (10, 5, 0))
    return f"{letters}{value >> 16:04X}"


def _from_eisa(text: str) -> int:
    if text[:1].isdigit():
        return to_int(text)
    if len(text) != 7 or not all(0x41 <= ord(char) <= 0x5F for char in text[:3]):
        raise ValueError(text)
    high, middle, low = (ord(char) - 0x40 for char in text[:3])
    return high << 10 | middle << 5 | low | int(text[3:], 16) << 16


def _write_acpi(fields: Fields) -> str:
    hid, uid = fields["hid"], fields["uid"]
    if hid & 0xFFFF != _PNP:
        return f"Acpi(0x{hid:08X},0x{uid:X})"
    name = _SHORT.get(hid >> 16)
    return f"{name}(0x{uid:X})" if name else f"Acpi({_eisa(hid)},0x{uid:X})"


def _read_acpi(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    hid, uid = arguments
    return (2, 1), {"hid": _from_eisa(hid), "uid": to_int(uid)}


def _read_short(number: int) -> Reader:
    def read(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
        (uid,) = arguments
        return (2, 1), {"hid": number << 16 | _PNP, "uid": to_int(uid)}

    return read


def _write_acpi_ex(fields: Fields) -> str:
    hid, cid = (_eisa(fields[name]) if fields[name] else "0" for name in ("hid", "cid"))
    if not fields["uid"] and not fields["hid_str"] and not fields["cid_str"] and fields["uid_str"]:
        return f"AcpiExp({hid},{cid},{fields['uid_str']})"
    return f"AcpiEx({hid},{cid},0x{fields['uid']:X},{fields['hid_str']},{fields['cid_str']},{fields['uid_str']})"


def _read_acpi_ex(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    hid, cid, uid, hid_str, cid_str, uid_str = arguments
    return (2, 2), {
        "hid": _from_eisa(hid),
        "uid": to_int(uid),
        "cid": _from_eisa(cid),
        "hid_str": hid_str,
        "uid_str": uid_str,
        "cid_str": cid_str,
    }


def _read_acpi_exp(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    hid, cid, uid_str = arguments
    return _read_acpi_ex([hid, cid, "0", "", "", uid_str])


def _write_adr(fields: Fields) -> str:
    return f"AcpiAdr({','.join([f'0x{value:X}' for value in fields['adr']])})"


def _read_adr(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    return (2, 3), {"adr": [to_int(argument) for argument in arguments]}


def _write_hd(fields: Fields) -> str | None:
    # Formats and signature types: 1 MBR, 2 GPT (10.3.5.1).
    form, signature = fields["partition_format"], fields["partition_signature"]
    if form != fields["signature_type"] or form not in {1, 2}:
        return None
    sig = f"MBR,0x{int.from_bytes(signature[:4], 'little'):08X}"
    if form == 2:
        sig = f"GPT,{str(UUID(bytes_le=signature)).upper()}"
    where = f"0x{fields['partition_start']:X},0x{fields['partition_size']:X}"
    return f"HD({fields['partition_number']},{sig},{where})"


def _read_hd(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    number, form, signature, start, size = arguments
    kind = to_index(("MBR", "GPT"), form) + 1
    data = UUID(signature).bytes_le if kind == 2 else struct.pack("<I", to_int(signature)) + bytes(12)
    return (4, 1), {
        "partition_number": to_int(number),
        "partition_start": to_int(start),
        "partition_size": to_int(size),
        "partition_signature": data,
        "partition_format": kind,
        "signature_type": kind,
    }


_RAM_DISKS = {
    UUID("77ab535a-45fc-624b-5560-f7b281d1f96e"): "VirtualDisk",
    UUID("3d5abd30-4175-87ce-6d64-d2ade523c4bb"): "VirtualCD",
    UUID("5cea02c9-4d07-69d3-269f-4496fbe096f9"): "PersistentVirtualDisk",
    UUID("08018188-42cd-bb48-100f-5387d53ded3d"): "PersistentVirtualCD",
}


def _write_ram_disk(fields: Fields) -> str:
    where = f"0x{fields['starting_address']:X},0x{fields['ending_address']:X},{fields['disk_instance']}"
    name = _RAM_DISKS.get(fields["disk_type_guid"])
    return f"{name}({where})" if name else f"RamDisk({where},{str(fields['disk_type_guid']).upper()})"


def _ram_disk(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    start, end, instance, guid = arguments
    return (4, 9), {
        "starting_address": to_int(start),
        "ending_address": to_int(end),
        "disk_type_guid": UUID(guid),
        "disk_instance": to_int(instance),
    }


def _read_ram_disk(guid: UUID) -> Reader:
    return lambda arguments: _ram_disk([*arguments, str(guid)])


_BBS_TYPES = {1: "Floppy", 2: "HD", 3: "CDROM", 4: "PCMCIA", 5: "USB", 6: "Network"}
_BBS_NUMBERS = {name: number for number, name in _BBS_TYPES.items()}


def _write_bbs(fields: Fields) -> str:
    kind = _BBS_TYPES.get(fields["device_type"], f"0x{fields['device_type']:X}")
    return f'BBS({kind},"{fields["description"]}",0x{fields["status_flag"]:X})'


def _read_bbs(arguments: list[str]) -> tuple[Kind, dict[str, Any]]:
    kind, description, *flag = arguments
    if len(flag) > 1:
        raise ValueError(flag)
    return (5, 1), {
        "device_type": _BBS_NUMBERS[kind] if kind in _BBS_NUMBERS else to_int(kind),
        "status_flag": to_int(flag[0]) if flag else 0,
        "description": unquote(description) if description.startswith('"') else description,
    }


def _write_file(fields: Fields) -> str | None:
    return fields["path_name"] or None


SPECIAL_WRITERS: Mapping[Kind, Writer] = {
    **MESSAGING_WRITERS,
    (1, 4): write_vendor("VenHw"),
    (2, 1): _write_acpi,
    (2, 2): _write_acpi_ex,
    (2, 3): _write_adr,
    (4, 1): _write_hd,
    (4, 3): write_vendor("VenMedia"),
    (4, 4): _write_file,
    (4, 9): _write_ram_disk,
    (5, 1): _write_bbs,
}
SPECIAL_READERS: Mapping[str, Reader] = {
    **MESSAGING_READERS,
    "VenHw": read_vendor((1, 4)),
    "Acpi": _read_acpi,
    **{name: _read_short(number) for number, name in _SHORT.items()},
    "AcpiEx": _read_acpi_ex,
    "AcpiExp": _read_acpi_exp,
    "AcpiAdr": _read_adr,
    "HD": _read_hd,
    "VenMedia": read_vendor((4, 3)),
    "RamDisk": _ram_disk,
    **{name: _read_ram_disk(guid) for guid, name in _RAM_DISKS.items()},
    "BBS": _read_bbs,
}
