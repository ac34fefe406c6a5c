"""What fuzzing starts from: the project's captures, taken apart, and the hand-written vectors of the tests."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Mapping
from functools import cache

import attrs
from cryptography.hazmat.primitives.asymmetric import ec

from measlog import EventLog, ReferenceManifest, SignedManifest
from measlog.interop import cbor, corim
from measlog.registry import EventType
from tests.conftest import FIXTURES
from tests.evidence import snp_maker, tdx_maker
from tests.formats.gpt_maker import entry, make_gpt
from tests.formats.pe_maker import make_pe
from tests.fuzz.targets import FAMILIES, TARGETS
from tests.interop import gomessages, test_clouds, test_gotdx, test_gotpmtools
from tests.records.vectors import ROWS
from tests.reference.kernels import bzimage, embedded, vmlinux, zboot

__all__ = ["seeds"]

_CAPTURE = FIXTURES / "flatcar-lab-good"
_PATHS = (
    b"PciRoot(0x0)/Pci(0x1F,0x2)/HD(1,GPT,C06C8547-12B6-43DB-AF4C-413316E02936,0x800,0x113000)/\\EFI\\BOOTX64.EFI",
    b"AcpiEx(PNP0A03,PNP0A08,0x1,h,c,u)/MAC(001122334455,0x1)/IPv4(10.0.0.1,TCP,Static,10.0.0.2,10.0.0.3,255.0.0.0)",
    b'UsbWwid(0x1,0x2,0x3,"a,b"),VenHw(C06C8547-12B6-43DB-AF4C-413316E02936,00FF)/Uri(http://x/,y)/BBS(HD,"d",0x1)',
    b"SasEx(0x1234567890ABCDEF,0x1234567890ABCDEF,0x2000,SAS,External,Direct,0x6A)/Uart(115200,8,N,1)/VenPcAnsi()",
    b"iSCSI(iqn.x,0x1,0x0000000000000000,None,CRC32C,CHAP_BI,TCP)/Dns(::1,::2)/Path(3,99,00AA)/Wi-Fi(ssid)",
)


@cache
def seeds() -> Mapping[str, tuple[bytes, ...]]:
    """Seeds by target, what ``fixtures/fuzz`` holds included."""
    found: dict[str, list[bytes]] = {name: [] for name in TARGETS}
    log = (_CAPTURE / "binary_bios_measurements").read_bytes()
    found["framing"] += [log, log[:2000]]
    for name in ("log", "yaml"):
        found[name] += _short(log)
    families = {kind: name for name, (kind, _) in FAMILIES.items() if not name.startswith(("ipl", "trust"))}
    for event in EventLog.from_bytes(log):
        name = families.get(event.type) or {8: "ipl_grub", 9: "ipl_grub"}.get(event.register.index, "ipl_stub")
        if event.type is EventType.EV_IPL and len(found[name]) > 12:
            continue
        if len(event.raw) < 4096:
            found[name].append(event.raw)
    alike = {
        EventType.EV_EFI_SPDM_FIRMWARE_CONFIG: "spdm",
        EventType.EV_EFI_VARIABLE_BOOT2: "boot",
        EventType.EV_EFI_GPT_EVENT2: "gpt_event",
        EventType.EV_EFI_HANDOFF_TABLES: "handoff2",
        EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB: "post_code",
        EventType.EV_IPL: "ipl_stub",
    }
    for _, kind, _, data, _ in ROWS:
        name = families.get(kind) or alike.get(kind, "version")
        found[name].append(data)
        if name == "tagged":
            found["trust_point"].append(data)
    found["device_path_text"] += _PATHS
    found["userspace_log"].append((FIXTURES / "uki" / "tpm2-measure.log").read_bytes())
    found["pcrlock"].append(
        b'{"records":[{"pcr":11,"digests":[{"hashAlg":"sha1","digest":"%s"}],"content":{"a":[1]}}]}' % (b"5a" * 20)
    )
    for scheme in ("", "-rsa"):
        attest, signature = (
            (_CAPTURE / f"quote{scheme}.msg").read_bytes(),
            (_CAPTURE / f"quote{scheme}.sig").read_bytes(),
        )
        found["attest"].append(attest)
        found["signature"].append(signature)
        found["quote"].append(bytes([len(attest)]) + attest + signature)
        found["public"].append((_CAPTURE / f"ak{scheme}.tpm2b").read_bytes())
    found["pcr_file"].append((_CAPTURE / "quote.pcrs").read_bytes())
    found["pe"].append(make_pe([(b".text", bytes(64)), (b".data", b"x" * 40)], certificates=bytes(16), trailer=b"t"))
    kernel = vmlinux(embedded())
    found["kernel"] += [bzimage(gzip.compress(kernel)), bzimage(bz2.compress(kernel)), zboot(lzma.compress(kernel))]
    found["gpt"].append(make_gpt([entry(64, 100, "A"), entry(101, 200, "B")], sectors=256))
    _user_space(found)
    found["tdx_quote"] += [tdx_maker.quote(), tdx_maker.quote(tdx_maker.body(v15=True), version=5, tail=bytes(8))]
    found["snp_report"] += [snp_maker.report(), snp_maker.report(version=3, vmpl=2)]
    found["hcl_report"] += [test_clouds.report(), test_clouds.report(kind=2)]
    found["nitrotpm"] += [test_clouds.document(), test_clouds.document(tagged=False)]
    found["go_tdx_guest"].append(test_gotdx.message(test_gotdx.parts(tdx_maker.quote())))
    manifest = SignedManifest.from_bytes((_CAPTURE / "manifest.dsse.json").read_bytes()).envelope.payload
    small = attrs.evolve(ReferenceManifest.from_json(manifest), disk=None, grub=None, boot_paths=(), usr=())
    found["corim"].append(corim.to_unsigned(small))
    found["signed_corim"].append(corim.sign(small, ec.derive_private_key(5, ec.SECP256R1()), signer="seed"))
    found["cbor"] += found["signed_corim"] + [cbor.encode({1: [None, True, -5, "text", {"a": cbor.Tag(99, b"b")}]})]
    found["attest_tool_dump"].append(gomessages.encoded(gomessages.dump()))
    found["go_tpm_tools"] += [
        gomessages.attestation(tail=gomessages.field(4, gomessages.field(1, b"zone"))),
        gomessages.attestation(tail=gomessages.field(5, test_gotpmtools.CONTAINERS)),
    ]
    for path in sorted(FIXTURES.glob("fuzz/*/*")):
        if path.parent.name in found and path.suffix != ".md":
            found[path.parent.name].append(path.read_bytes())
    return {name: tuple(dict.fromkeys(items)) for name, items in found.items() if items}


def _user_space(found: dict[str, list[bytes]]) -> None:
    """IMA logs with all templates, and canonical event logs with all contents."""
    from measlog.interop.cel import CelLog
    from measlog.interop.ima import ImaLog
    from tests.interop.cases import CEL_CONTENTS, IMA_CASES, IMA_LISTED, cel_log
    from tests.interop.ima_maker import entry

    logs = [entry(template, fields) for template, fields in IMA_CASES.items()]
    logs.append(b"".join(logs) + entry("ima-ng", IMA_CASES["ima-ng"], violation=True))
    found["ima"] += logs
    found["ima_ascii"] += [ImaLog.from_bytes(log).to_ascii() for log in logs]
    found["ima_allow"].append(IMA_LISTED)
    short = CelLog.from_log(EventLog.from_bytes(_short((_CAPTURE / "binary_bios_measurements").read_bytes())[1]))
    for log in (short, cel_log(CEL_CONTENTS[:5]), cel_log(CEL_CONTENTS[5:])):
        found["cel_json"].append(log.to_json())
        found["cel_cbor"].append(log.to_cbor())
        found["cbor"].append(log.to_cbor())
        found["cel_tlv"].append(log.to_tlv())


def _short(log: bytes) -> list[bytes]:
    """Logs of all three kinds with the same events, long ones left out: what is mutated should be structure."""
    from measlog.formats.pfp import LogEvent, build_log

    source = EventLog.from_bytes(log)
    events = [
        LogEvent(event.register.index, event.type, event.digests, event.raw)
        for event in source
        if event.index and len(event.raw) < 600
    ]
    version = [event for event in events if event.type == EventType.EV_S_CRTM_VERSION]
    measured = [event._replace(register=event.register % 5) for event in events[::5]]
    return [
        build_log(events[::3], algorithms=source.algorithms),
        build_log(version + events[::4], algorithms=None),
        build_log(measured, algorithms=source.algorithms, spec_id_register=1, filler=b"\xff" * 64),
    ]
