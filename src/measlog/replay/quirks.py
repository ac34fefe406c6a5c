"""Known deviations of firmware and boot loaders from the specifications, as data.

A quirk is named in the result wherever it was met. ``may_pass`` says whether an appraisal may rest on an event that was
explained by it; where it is false, the quirk serves diagnosis only.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from attrs import field, frozen
from attrs.validators import deep_iterable, in_, instance_of, matches_re

from measlog.registry import EventType

__all__ = ["QUIRKS", "Area", "Quirk"]

Area = Literal["digest", "payload", "sequence", "log"]
_AREAS: tuple[Area, ...] = ("digest", "payload", "sequence", "log")


@frozen(kw_only=True)
class Quirk:
    """One deviation.

    ``applies``: the event types it is met in (empty: any). ``area``: where it shows: in what is hashed, in the form of
    the payload, in the order or presence of events, or in the log as a whole.
    """

    id: str = field(validator=matches_re(r"Q[0-9]+"))
    title: str = field(validator=instance_of(str))
    applies: tuple[EventType, ...] = field(default=(), validator=deep_iterable(instance_of(EventType)))
    area: Area = field(validator=in_(_AREAS))
    may_pass: bool = field(validator=instance_of(bool))
    source: str = field(validator=instance_of(str))


_E = EventType
_IMAGES = (
    _E.EV_EFI_BOOT_SERVICES_APPLICATION,
    _E.EV_EFI_BOOT_SERVICES_DRIVER,
    _E.EV_EFI_RUNTIME_SERVICES_DRIVER,
)

QUIRKS: Mapping[str, Quirk] = MappingProxyType(
    {
        quirk.id: quirk
        for quirk in (
            Quirk(
                id="Q1",
                title="ExitBootServices events reach PCR 5 but not the log",
                applies=(_E.EV_EFI_ACTION,),
                area="sequence",
                may_pass=False,
                source="go-attestation, eventlog_workarounds; the EFI final events table is the better source",
            ),
            Quirk(
                id="Q2",
                title="Shim authority without owner, logged one byte longer than what was hashed",
                applies=(_E.EV_EFI_VARIABLE_AUTHORITY,),
                area="digest",
                may_pass=True,
                source="go-attestation, secureboot; real logs of Google Compute Engine",
            ),
            Quirk(
                id="Q3",
                title="Strings of old shim end in 00 AF, of which the last byte is not hashed",
                applies=(_E.EV_EFI_VARIABLE_AUTHORITY, *_IMAGES),
                area="payload",
                may_pass=True,
                source="uefi-eventlog-rs; the same off-by-one as Q2",
            ),
            Quirk(
                id="Q4",
                title="SbatLevel and MokListTrusted measured as authority hold no EFI_SIGNATURE_DATA",
                applies=(_E.EV_EFI_VARIABLE_AUTHORITY,),
                area="payload",
                may_pass=True,
                source="shim, sbat.c and mok.c",
            ),
            Quirk(
                id="Q5",
                title="The Shim variable is a bare DER certificate without an owner",
                applies=(_E.EV_EFI_VARIABLE_AUTHORITY,),
                area="payload",
                may_pass=True,
                source="shim, verify.c",
            ),
            Quirk(
                id="Q6",
                title="shim's vendor_db is logged under the image-security GUID",
                applies=(_E.EV_EFI_VARIABLE_AUTHORITY,),
                area="payload",
                may_pass=True,
                source="shim, README.tpm",
            ),
            Quirk(
                id="Q7",
                title="EV_EFI_VARIABLE_BOOT hashed as a whole, not its value alone",
                applies=(_E.EV_EFI_VARIABLE_BOOT,),
                area="digest",
                may_pass=True,
                source="tcglog-parser, tcglog-check; real logs",
            ),
            Quirk(
                id="Q8",
                title="Action text with a NUL in the data or in the hash only",
                applies=(_E.EV_ACTION, _E.EV_EFI_ACTION),
                area="digest",
                may_pass=True,
                source="secboot, fw_load_handler (Dell: DMA Protection Disabled)",
            ),
            Quirk(
                id="Q9",
                title="Separator of PCR 7 between configuration and verification, or only at the end",
                applies=(_E.EV_SEPARATOR,),
                area="sequence",
                may_pass=True,
                source="EDK2; secboot, check_tcglog",
            ),
            Quirk(
                id="Q10",
                title="Absolute's agent started before or after the separator of PCR 4",
                applies=(_E.EV_EFI_BOOT_SERVICES_APPLICATION,),
                area="sequence",
                may_pass=False,
                source="secboot, check_pcr4",
            ),
            Quirk(
                id="Q11",
                title="Image hashed as a flat file, not by Authenticode",
                applies=_IMAGES,
                area="digest",
                may_pass=False,
                source="tcglog-parser; shim, tpm.c",
            ),
            Quirk(
                id="Q12",
                title="The firmware's boot menu and other built-in applications in PCR 4",
                applies=(_E.EV_EFI_BOOT_SERVICES_APPLICATION,),
                area="sequence",
                may_pass=False,
                source="keylime, create_mb_policy",
            ),
            Quirk(
                id="Q13",
                title="The kernel measured twice",
                applies=(_E.EV_EFI_BOOT_SERVICES_APPLICATION,),
                area="sequence",
                may_pass=False,
                source="keylime, example policy",
            ),
            Quirk(
                id="Q14",
                title="EV_POST_CODE holds a text or a firmware blob",
                applies=(_E.EV_POST_CODE,),
                area="payload",
                may_pass=True,
                source="tpm2-tools; PFP 1.06, 10.4.1 allows both",
            ),
            Quirk(
                id="Q15",
                title="EV_S_CRTM_CONTENTS holds a text",
                applies=(_E.EV_S_CRTM_CONTENTS,),
                area="payload",
                may_pass=True,
                source="coreboot; Intel Boot Guard logs",
            ),
            Quirk(
                id="Q16",
                title="EV_S_CRTM_VERSION holds a GUID",
                applies=(_E.EV_S_CRTM_VERSION,),
                area="payload",
                may_pass=True,
                source="PFP 1.06, 10.4.1 allows both",
            ),
            Quirk(
                id="Q17",
                title="Base and length of a firmware blob swapped or repeated",
                applies=(_E.EV_EFI_PLATFORM_FIRMWARE_BLOB,),
                area="payload",
                may_pass=True,
                source="converged-security-suite, parse_event_data",
            ),
            Quirk(
                id="Q18",
                title="EV_IPL without data",
                applies=(_E.EV_IPL,),
                area="payload",
                may_pass=False,
                source="pcr-oracle, eventlog.c (old ThinkPads)",
            ),
            Quirk(
                id="Q19",
                title="GRUB text hashed with its NUL",
                applies=(_E.EV_IPL,),
                area="digest",
                may_pass=True,
                source="GRUB with Red Hat's older patches; real logs",
            ),
            Quirk(
                id="Q20",
                title="systemd-stub's command line in PCR 8 instead of 12",
                applies=(_E.EV_IPL,),
                area="sequence",
                may_pass=True,
                source="systemd before version 251",
            ),
            Quirk(
                id="Q21",
                title="Windows events on register 0xFFFFFFFF, with a digest that extends nothing",
                applies=(_E.EV_NO_ACTION,),
                area="log",
                may_pass=True,
                source="tpm_futurepcr; real logs",
            ),
            Quirk(
                id="Q22",
                title="RTMR logs with a duplicate separator, BLOB2 in MR 1, or extends outside the log",
                area="sequence",
                may_pass=False,
                source="go-eventlog, ccel test data",
            ),
            Quirk(
                id="Q23",
                title="EV_EFI_GPT_EVENT holds the used entries only",
                applies=(_E.EV_EFI_GPT_EVENT,),
                area="payload",
                may_pass=True,
                source="EDK2; PFP 1.06, 10.2.6 says the same",
            ),
            Quirk(
                id="Q24",
                title="SecureBoot measured empty where it was never set",
                applies=(_E.EV_EFI_VARIABLE_DRIVER_CONFIG,),
                area="payload",
                may_pass=False,
                source="go-tpm-tools, AllowEmptySBVar",
            ),
            Quirk(
                id="Q25",
                title="Old tpm2-tools print GUIDs with swapped bytes",
                area="log",
                may_pass=False,
                source="keylime, tpm2_tools_elparser: text renderings are not parsed here",
            ),
            Quirk(
                id="Q26",
                title="The kernel's pseudo-file says that it has no size",
                area="log",
                may_pass=True,
                source="tpm2-tools#1975: read until the end",
            ),
            Quirk(
                id="Q27",
                title="Separator with more than four bytes of data, the first four hashed",
                applies=(_E.EV_SEPARATOR,),
                area="digest",
                may_pass=True,
                source="coreboot (StarLabs#437)",
            ),
            Quirk(
                id="Q28",
                title="Log area full: registers extended, events lost",
                area="log",
                may_pass=False,
                source="shim, tpm.c warn_first_log_full",
            ),
            Quirk(
                id="Q29",
                title="A large dbx or many GRUB commands overflow the log area",
                area="log",
                may_pass=False,
                source="as Q28",
            ),
            Quirk(
                id="Q30",
                title="EV_EFI_VARIABLE_DRIVER_CONFIG hashed by its value alone: name and GUID are free",
                applies=(_E.EV_EFI_VARIABLE_DRIVER_CONFIG,),
                area="digest",
                may_pass=False,
                source="real log of a Lenovo with TPM 1.2",
            ),
            Quirk(
                id="Q31",
                title="Authority of bare DER, logged one byte longer than what was hashed, under any name",
                applies=(_E.EV_EFI_VARIABLE_AUTHORITY,),
                area="digest",
                may_pass=True,
                source="real logs of Container-Optimized OS",
            ),
            Quirk(
                id="Q32",
                title="EV_EVENT_TAG without a tag",
                applies=(_E.EV_EVENT_TAG,),
                area="payload",
                may_pass=False,
                source="Linux EFI stub on CCEL; real log",
            ),
            Quirk(
                id="Q33",
                title="Command line of old systemd-stub: the last byte that was hashed, a NUL, is not in the data",
                applies=(_E.EV_IPL,),
                area="digest",
                may_pass=True,
                source="real log of Arch Linux",
            ),
        )
    }
)
