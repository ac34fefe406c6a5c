"""Device paths as the library efivar prints them, which tpm2_eventlog uses where it was built with it.

The forms resemble those of UEFI 2.10, 10.6, with numbers in other bases, GUIDs in lower case and names of its own. They
cannot be read back; nodes that efivar prints in no way of its own get their standard form.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from measlog.errors import FormatError
from measlog.records.device_path import DevicePathNode

__all__ = ["EfivarVersion", "format_path"]

EfivarVersion = Literal["efivar37", "efivar39"]
Fields = Mapping[str, Any]


def _acpi(fields: Fields) -> str:
    names = {0x0A03: "PciRoot", 0x0A08: "PcieRoot", 0x0604: "Floppy", 0x0301: "Keyboard", 0x0501: "Serial"}
    hid = fields["hid"]
    name = names.get(hid >> 16) if hid & 0xFFFF == 0x41D0 else None
    return f"{name}(0x{fields['uid']:x})" if name else f"Acpi(0x{hid:08x},0x{fields['uid']:x})"


def _vendor(name: str) -> Callable[[Fields], str]:
    def write(fields: Fields) -> str:
        data = fields["vendor_defined_data"]
        return f"{name}({fields['vendor_guid']}{',' + data.hex() if data else ''})"

    return write


def _mac(fields: Fields) -> str:
    size = 6 if fields["if_type"] in {0, 1} else 32
    return f"MAC({fields['mac_address'][:size].hex()},{fields['if_type']})"


def _ipv4(fields: Fields) -> str:
    names = ("remote_ip_address", "local_ip_address", "gateway_ip_address", "subnet_mask")
    remote, local, gateway, mask = (str(ipaddress.IPv4Address(fields.get(name, bytes(4)))) for name in names)
    origin = "Static" if fields["static_ip_address"] else "DHCP"
    return f"IPv4({remote},{fields['protocol']},{origin},{local},{gateway},{mask})"


def _ipv4_old(fields: Fields) -> str:
    # efivar 37 leaves out the comma between the addresses.
    local, remote = (str(ipaddress.IPv4Address(fields[f"{name}_ip_address"])) for name in ("local", "remote"))
    return f"IPv4({local}{remote},{fields['protocol']},{fields['static_ip_address']})"


def _hd(fields: Fields) -> str:
    signature = fields["partition_signature"]
    where = f"0x{fields['partition_start']:x},0x{fields['partition_size']:x}"
    if fields["signature_type"] == 2:
        return f"HD({fields['partition_number']},GPT,{UUID(bytes_le=signature)},{where})"
    if fields["signature_type"] == 1:
        return f"HD({fields['partition_number']},MBR,0x{int.from_bytes(signature[:4], 'little'):x},{where})"
    return f"HD({fields['partition_number']},{fields['signature_type']},{signature.hex()},{where})"


def _bbs(fields: Fields) -> str:
    names = {1: "Floppy", 2: "HD", 3: "CDROM", 4: "PCMCIA", 5: "USB", 6: "Embedded Network"}
    kind = names.get(fields["device_type"], str(fields["device_type"]))
    return f"BBS({kind},{fields['description']},0x{fields['status_flag']:x})"


_FORMS: Mapping[tuple[int, int], Callable[[Fields], str]] = {
    (1, 1): lambda f: f"Pci(0x{f['device']:x},0x{f['function']:x})",
    (1, 4): _vendor("VenHw"),
    (2, 1): _acpi,
    (3, 2): lambda f: f"SCSI({f['target_id']},{f['lun']})",
    (3, 5): lambda f: f"USB({f['parent_port_number']},{f['interface_number']})",
    (3, 10): _vendor("VenMsg"),
    (3, 11): _mac,
    (3, 12): _ipv4,
    (3, 18): lambda f: f"Sata({f['hba_port']},{f['port_multiplier_port']},{f['lun']})",
    (3, 23): lambda f: f"NVMe(0x{f['namespace_id']:x},{'-'.join(f'{byte:02x}' for byte in f['eui64'])})",
    (3, 24): lambda f: f"Uri({f['uri']})",
    (4, 1): _hd,
    (4, 3): _vendor("VenMedia"),
    (4, 4): lambda f: str(f["path_name"]),
    (4, 5): lambda f: f"Media({f['protocol_guid']})",
    (4, 6): lambda f: f"FvFile({f['fv_file_name']})",
    (4, 7): lambda f: f"FvVol({f['fv_name']})",
    (4, 8): lambda f: f"Offset(0x{f['starting_offset']:x},0x{f['ending_offset']:x})",
    (5, 1): _bbs,
}
_OLD_FORMS = {**_FORMS, (3, 12): _ipv4_old, (4, 4): lambda f: f"File({f['path_name']})"}


def format_path(nodes: Sequence[DevicePathNode], version: EfivarVersion) -> str:
    """The first instance of the path in the form of one of efivar's versions."""
    forms = _FORMS if version == "efivar39" else _OLD_FORMS
    found = []
    for node in nodes:
        if node.type == 0x7F:
            break
        form = forms.get((node.type, node.subtype))
        try:
            found.append(form(node.fields) if form is not None else node.text)
        except FormatError:
            found.append(node.text)
    return "/".join(found)
