"""Every node of UEFI 2.10, clause 10.3, as bytes, as fields and as the text of clause 10.6.

Bytes are written by hand from the tables of 10.3, texts from the table of 10.6 in the spelling of EDK2's library, with
numbers in hex as it prints them. One row is read, written, printed and read from its text.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError, UnsupportedError
from measlog.formats.cursor import Cursor
from measlog.limits import Limits
from measlog.records import DevicePath, DevicePathNode
from measlog.records.device_path import read_path
from measlog.records.device_path_nodes import KINDS, build_node
from measlog.records.device_path_text import node_from_text

END = "7fff0400"
GUID = "C06C8547-12B6-43DB-AF4C-413316E02936"
GUID_HEX = "47856cc0b612db43af4c413316e02936"

ROWS: list[tuple[str, str, str]] = [
    # clause, node with its header, text
    ("10.3.2.1", "01010600 02 1f", "Pci(0x1F,0x2)"),
    ("10.3.2.2", "01020500 03", "PcCard(0x3)"),
    ("10.3.2.3", "01031800 0b000000 0010000000000000 ff1f000000000000", "MemoryMapped(0xB,0x1000,0x1FFF)"),
    ("10.3.2.4", f"01041400 {GUID_HEX}", f"VenHw({GUID})"),
    ("10.3.2.4 data", f"01041700 {GUID_HEX} 0aff10", f"VenHw({GUID},0AFF10)"),
    ("10.3.2.5", "01050800 01000000", "Ctrl(0x1)"),
    ("10.3.2.6", "01060d00 02 0200000000000000", "BMC(0x2,0x2)"),
    ("10.3.3 PciRoot", "02010c00 d041030a 00000000", "PciRoot(0x0)"),
    ("10.3.3 PcieRoot", "02010c00 d041080a 01000000", "PcieRoot(0x1)"),
    ("10.3.3 Floppy", "02010c00 d0410406 01000000", "Floppy(0x1)"),
    ("10.3.3 Keyboard", "02010c00 d0410103 00000000", "Keyboard(0x0)"),
    ("10.3.3 Serial", "02010c00 d0410105 00000000", "Serial(0x0)"),
    ("10.3.3 ParallelPort", "02010c00 d0410104 00000000", "ParallelPort(0x0)"),
    ("10.3.3 other PNP", "02010c00 d041030c 02000000", "Acpi(PNP0C03,0x2)"),
    ("10.3.3 no PNP", "02010c00 11223344 02000000", "Acpi(0x44332211,0x2)"),
    ("10.3.3 expanded", "02021700 d041030a 01000000 d041080a 686964 00 00 6300", "AcpiEx(PNP0A03,PNP0A08,0x1,hid,c,)"),
    ("10.3.3 expanded UID", "02021600 d041030a 00000000 00000000 00 554944 00 00", "AcpiExp(PNP0A03,0,UID)"),
    ("10.3.3.1", "02030c00 00010180 00010280", "AcpiAdr(0x80010100,0x80020100)"),
    ("10.3.4.1", "03010800 01 00 0300", "Ata(Secondary,Master,0x3)"),
    ("10.3.4.2", "03020800 0100 0200", "Scsi(0x1,0x2)"),
    ("10.3.4.3", "03031800 00000000 8877665544332211 0500000000000000", "Fibre(0x1122334455667788,0x5)"),
    (
        "10.3.4.3 ex",
        "03151800 00000000 1122334455667788 0000000000000005",
        "FibreEx(0x1122334455667788,0x0000000000000005)",
    ),
    ("10.3.4.4", "03041000 00000000 8877665544332211", "I1394(0x1122334455667788)"),
    ("10.3.4.5", "03050600 0b 00", "USB(0xB,0x0)"),
    ("10.3.4.8 class", "030f0b00 8680 3412 ff 01 02", "UsbClass(0x8086,0x1234,0xFF,0x1,0x2)"),
    ("10.3.4.8 storage", "030f0b00 8680 3412 08 06 50", "UsbMassStorage(0x8086,0x1234,0x6,0x50)"),
    ("10.3.4.8 subclass", "030f0b00 8680 3412 fe 01 02", "UsbDeviceFirmwareUpdate(0x8086,0x1234,0x2)"),
    ("10.3.4.6", "03100e00 0100 8680 3412 41002c00", 'UsbWwid(0x8086,0x1234,0x1,"A,")'),
    ("10.3.4.7", "03110500 04", "Unit(0x4)"),
    ("10.3.4.8 i2o", "03060800 07000000", "I2O(0x7)"),
    (
        "10.3.4.10",
        "030b2500 0cc47aff601c 0000000000000000000000000000000000000000000000000000 01",
        "MAC(0CC47AFF601C,0x1)",
    ),
    (
        "10.3.4.11",
        "030c1b00 0a000002 0a000001 0000 0000 0600 01 0a000003 ffffff00",
        "IPv4(10.0.0.1,TCP,Static,10.0.0.2,10.0.0.3,255.255.255.0)",
    ),
    ("10.3.4.11 short", "030c1300 00000000 0a000001 0000 0000 1100 00", "IPv4(10.0.0.1,UDP,DHCP,0.0.0.0)"),
    (
        "10.3.4.12",
        "030d3c00 fe80" + "00" * 13 + "01 fe80" + "00" * 13 + "02 0000 0000 0600 02 40 fe80" + "00" * 13 + "03",
        "IPv6(fe80::2,TCP,StatefulAutoConfigure,fe80::1,0x40,fe80::3)",
    ),
    (
        "10.3.4.12 short",
        "030d2b00 fe80" + "00" * 13 + "01 fe80" + "00" * 13 + "02 0000 0000 1100 00",
        "IPv6(fe80::2,UDP,Static,fe80::1)",
    ),
    ("10.3.4.13", "03140600 6400", "Vlan(100)"),
    (
        "10.3.4.14",
        f"03093000 01000000 {GUID_HEX} 0200000000000000 0300000000000000 0400000000000000",
        f"Infiniband(0x1,{GUID},0x2,0x3,0x4)",
    ),
    ("10.3.4.15", "030e1300 00000000 00c2010000000000 08 01 01", "Uart(115200,8,N,1)"),
    ("10.3.4.15 default", "030e1300 00000000 0000000000000000 00 00 00", "Uart(DEFAULT,DEFAULT,D,D)"),
    ("10.3.4.16", f"030a1400 {GUID_HEX}", f"VenMsg({GUID})"),
    ("10.3.4.17 PcAnsi", "030a1400 5347c1e0 bef9 d211 9a0c 0090273fc14d", "VenPcAnsi()"),
    ("10.3.4.17 VT-UTF8", "030a1400 d6a015ad ec8b cf4a a073 d01de77e2d88", "VenUtf8()"),
    ("10.3.4.17 flow", "030a1800 9d9a4937 2f54 894c a026 35da142094e4 01000000", "UartFlowCtrl(Hardware)"),
    (
        "10.3.4.18",
        "03161800 1234567890abcdef 0000000000000001 3269 0020",
        "SasEx(0x1234567890ABCDEF,0x0000000000000001,0x2000,SATA,External,Direct,0x6A)",
    ),
    (
        "10.3.4.18 none",
        "03161800 1234567890abcdef 0000000000000001 0000 0100",
        "SasEx(0x1234567890ABCDEF,0x0000000000000001,0x1,NoTopology,0,0,0)",
    ),
    (
        "10.3.4.19",
        "03131700 0000 0200 0000000000000001 0100 69716e2e78",
        "iSCSI(iqn.x,0x1,0x0000000000000001,CRC32C,None,CHAP_BI,TCP)",
    ),
    ("10.3.4.20", "03171000 01000000 002538 8c91b96efe", "NVMe(0x1,00-25-38-8C-91-B9-6E-FE)"),
    ("10.3.4.21", "03181300 687474703a2f2f782f612e622f6328", "Path(3,24,687474703A2F2F782F612E622F6328)"),
    ("10.3.4.21 comma", "03180f00 687474703a2f2f782f2c61", "Uri(http://x/,a)"),
    ("10.3.4.22", "03190600 01 02", "UFS(0x1,0x2)"),
    ("10.3.4.23", "031a0500 02", "SD(0x2)"),
    ("10.3.4.24", "031b0a00 001122334455", "Bluetooth(001122334455)"),
    ("10.3.4.25", "031c2400 6e6574 " + "00" * 29, "Wi-Fi(net)"),
    ("10.3.4.26", "031d0500 01", "eMMC(0x1)"),
    ("10.3.4.27", "031e0b00 001122334455 01", "BluetoothLE(001122334455,0x1)"),
    ("10.3.4.28", "031f1500 00 0a000001" + "00" * 12, "Dns(10.0.0.1)"),
    ("10.3.4.28 six", "031f1500 01 20010db8000000000000000000000001", "Dns(2001:db8::1)"),
    ("10.3.4.9", "03120a00 0100 ffff 0000", "Sata(0x1,0xFFFF,0x0)"),
    (
        "10.3.5.1 GPT",
        f"04012a00 01000000 0008000000000000 0030110000000000 {GUID_HEX} 02 02",
        f"HD(1,GPT,{GUID},0x800,0x113000)",
    ),
    (
        "10.3.5.1 MBR",
        "04012a00 02000000 0008000000000000 0010000000000000 78563412 000000000000000000000000 01 01",
        "HD(2,MBR,0x12345678,0x800,0x1000)",
    ),
    ("10.3.5.2", "04021800 01000000 1000000000000000 2000000000000000", "CDROM(0x1,0x10,0x20)"),
    ("10.3.5.3", f"04031600 {GUID_HEX} 0102", f"VenMedia({GUID},0102)"),
    ("10.3.5.4", "04040e00 5c0061002e0062000000", "\\a.b"),
    ("10.3.5.5", f"04051400 {GUID_HEX}", f"Media({GUID})"),
    ("10.3.5.6", f"04061400 {GUID_HEX}", f"FvFile({GUID})"),
    ("10.3.5.7", f"04071400 {GUID_HEX}", f"Fv({GUID})"),
    ("10.3.5.8", "04081800 00000000 0022010000000000 ffa7020000000000", "Offset(0x12200,0x2A7FF)"),
    (
        "10.3.5.9",
        f"04092600 0010000000000000 ff1f000000000000 {GUID_HEX} 0100",
        f"RamDisk(0x1000,0x1FFF,1,{GUID})",
    ),
    (
        "10.3.5.9 virtual CD",
        "04092600 0010000000000000 ff1f000000000000 30bd5a3d 7541 ce87 6d64 d2ade523c4bb 0000",
        "VirtualCD(0x1000,0x1FFF,0)",
    ),
    ("10.3.6", "05011000 0200 0100 6469736b2c203100", 'BBS(HD,"disk, 1",0x1)'),
]


def _hex(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


@pytest.mark.parametrize(("data", "text"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_bytes_fields_and_text(data: str, text: str) -> None:
    raw = _hex(data)
    path = read_path(Cursor(raw + _hex(END)))
    node = path.nodes[0]
    assert node.to_bytes() == raw
    assert build_node((node.type, node.subtype), node.fields) == node
    assert node.text == text
    assert node_from_text(text) == node
    assert path.text == text
    assert DevicePath.from_text(text) == path


def test_every_kind_of_node_has_a_row_or_no_text_of_its_own() -> None:
    # UEFI 2.10 gives no text form for these: they are printed, and read, in the generic one.
    generic = {(2, 4), (3, 32), (3, 33)}
    rows = {(_hex(data)[0], _hex(data)[1]) for _, data, _ in ROWS}
    assert set(KINDS) - rows == generic | {(3, 34), (0x7F, 0x01), (0x7F, 0xFF)}
    for kind in generic:
        assert DevicePathNode(type=kind[0], subtype=kind[1], data=bytes(16)).text.startswith(
            f"Path({kind[0]},{kind[1]},"
        )


OTHER: list[tuple[str, str]] = [
    # What people write that is not what is printed
    ("Pci(31,2)", "01010600 02 1f"),
    ("HardwarePath(1,021F)", "01010600 02 1f"),
    ("AcpiPath(1,d041030a00000000)", "02010c00 d041030a 00000000"),
    ("Msg(17,04)", "03110500 04"),
    ("MediaPath(4,41000000)", "04040800 4100 0000"),
    ("BbsPath(1,020001000000)", "05010a00 0200 0100 0000"),
    ("Path(3,17,04)", "03110500 04"),
    ("Acpi(PNP0A03,0x0)", "02010c00 d041030a 00000000"),
    ('BBS(HD,"d")', "05010a00 0200 0000 6400"),
    ("Nobody(1)", "04041800 4e00 6f00 6200 6f00 6400 7900 2800 3100 2900 0000"),
    ("\\EFI(1)", "04041200 5c00 4500 4600 4900 2800 3100 2900 0000"),
]


@pytest.mark.parametrize(("text", "data"), OTHER)
def test_other_forms_are_read_too(text: str, data: str) -> None:
    found = node_from_text(text).to_bytes()
    assert found[4:] == _hex(data)[4:]
    assert found[:2] == _hex(data)[:2]


ODD: list[tuple[str, str]] = [
    # Nodes whose standard form would lose something
    ("reserved bytes", "03031800 01000000 8877665544332211 0500000000000000"),
    ("ports", "030c1300 00000000 0a000001 5000 0000 0600 01"),
    ("long MAC", "030b2500 0cc47aff601c ff00000000000000000000000000000000000000000000000000 01"),
    ("MBR signature with a tail", "04012a00 02000000 0008000000000000 0010000000000000 78563412 ff0000000000000000000000 01 01"),
    ("formats that disagree", f"04012a00 01000000 0008000000000000 0030110000000000 {GUID_HEX} 01 02"),
    ("path with a slash", "04040a00 61002f006200 0000"),
    ("path with a comma", "04040a00 61002c006200 0000"),
    ("path like a node", "04041600 500063006900280030002c00310029000000"),
    ("empty path", "04040600 0000"),
    ("bytes after the NUL", "04040a00 61000000 6200"),
    ("too short", "01010500 02"),
    ("too long", "01010700 02 1f 00"),
    # Numbers that the tables of 10.3.4 give no meaning
    ("third channel", "03010800 02 00 0000"),
    ("third device of a channel", "03010800 00 02 0000"),
    ("IPv4 of an origin unheard of", "030c1300 00000000 0a000001 0000 0000 0600 02"),
    ("IPv6 of an origin unheard of", "030d2b00" + "00" * 32 + "0000 0000 0600 03"),
    ("parity unheard of", "030e1300 00000000 00c2010000000000 08 06 01"),
    ("stop bits unheard of", "030e1300 00000000 00c2010000000000 08 01 04"),
    ("topology told in three bytes", "03161800 1234567890abcdef 0000000000000001 0300 0000"),
    ("name servers of a third family", "031f1500 02 0a000001" + "00" * 12),
    ("no name server", "031f0500 00"),
    ("serial number of an odd size", "03100b00 0100 8680 3412 41"),
    ("text without its NUL", "05010a00 0200 0100 6469"),
    ("quote in a serial number", "03100c00 0100 8680 3412 2200"),
    ("unknown", "06010600 0102"),
    ("end with data", "7fff0600 0102"),
]  # fmt: skip


@pytest.mark.parametrize("data", [row[1] for row in ODD], ids=[row[0] for row in ODD])
def test_odd_nodes_have_the_generic_form_and_lose_nothing(data: str) -> None:
    raw = _hex(data)
    size = len(raw).to_bytes(2, "little")
    raw = raw[:2] + size + raw[4:]
    node = DevicePathNode(type=raw[0], subtype=raw[1], data=raw[4:])
    assert node.text.startswith("Path(")
    assert node_from_text(node.text) == node
    middle = DevicePath(
        nodes=(node, DevicePathNode(type=1, subtype=1, data=b"\0\0"), DevicePathNode(type=0x7F, subtype=0xFF))
    )
    assert DevicePath.from_text(middle.text) == middle


BAD = [
    "Pci(1)",
    "Pci(1,2,3)",
    "Pci(x,0)",
    "Pci(0x100,0)",
    "HD(1,GPT,nothing,0,1)",
    "HD(1,APM,0,0,1)",
    "IPv4(1.2.3,TCP,DHCP,0.0.0.0)",
    "Uart(1,2,Q,1)",
    "Path(256,1)",
    "Path(1,1,abc)",
    "VenHw(1)",
    "Acpi(PNP,0)",
    "Dns(1.2.3.4,::1)",
    "Ata(Primary,Nobody,0)",
    "NVMe(0x1,00)",
    "iSCSI(n,0x1,0x0000000000000001,None,None,None,UDP)",
    "UsbWwid(0x8086,0x1234,0x1,A)",
    "VenPcAnsi(1)",
    f"VenHw({GUID},00,00)",
    f"Infiniband(0x1,{GUID[:-1]},0x2,0x3,0x4)",
    'BBS(HD,"d",1,2)',
    'BBS(HD,"d"d,1)',
    "Pci(0,1",
    "Pci)0,1(",
    "MAC(0011,0x1,2)",
]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_text_form_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        DevicePath.from_text(text)


@pytest.mark.parametrize("text", ['BBS(HD,"d,1)', 'UsbWwid(0x1,0x2,0x3,"A)'])
def test_a_quote_that_does_not_end_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="not the text form of a device path node"):
        node_from_text(text)


def test_instances() -> None:
    # UEFI 2.10, 10.3.1: End This Instance, 0x7F 0x01
    path = read_path(Cursor(_hex("01010600 001f 7f010400 01010600 011f" + END)))
    assert path.text == "Pci(0x1F,0x0),Pci(0x1F,0x1)"
    assert DevicePath.from_text(path.text) == path


def test_kinds_without_a_name_have_no_fields() -> None:
    node = DevicePathNode(type=6, subtype=1, data=b"\1")
    assert node.name == ""
    with pytest.raises(UnsupportedError):
        node.fields  # noqa: B018
    assert DevicePathNode(type=4, subtype=1).name == "HardDrive"


def test_a_path_ends_with_its_end_node() -> None:
    # UEFI 2.10, 10.3.1: what follows End Entire would be a second path to one reader and nothing to another.
    with pytest.raises(
        FormatError, match=r"10 bytes follow the end of the path.*nodes\[0\]|nodes\[0\].*10 bytes follow"
    ):
        read_path(Cursor(_hex(END + "01010600 021f" + END)))


def test_more_nodes_than_the_limit_are_refused() -> None:
    with pytest.raises(FormatError, match="more than 2 nodes"):
        read_path(Cursor(_hex("01010600 021f") * 2 + _hex(END), limits=Limits(items=2)))


@given(st.text(max_size=60))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    try:
        path = DevicePath.from_text(text)
    except FormatError:
        return
    assert DevicePath.from_text(path.text) == path
