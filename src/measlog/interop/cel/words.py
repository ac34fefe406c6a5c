"""The names and numbers that CEL-JSON and CEL-CBOR give the same things (CEL 1.1, 5.2: ``JC<name, number>``)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from measlog.formats.cel import CelManagementType, CelType

__all__ = ["CONTENT_TYPES", "MANAGEMENT_TYPES", "MEMBERS", "STATES", "STATES_BY_NAME"]

MEMBERS: Mapping[str, int] = MappingProxyType(
    {
        # TPMS_CEL_EVENT
        "recnum": 0,
        "pcr": 1,
        "nv_index": 2,
        "digests": 3,
        "content_type": 9,
        "content": 10,
        # TPMT_HA, and the contents
        "hashAlg": 0,
        "digest": 1,
        "type": 0,
        "data": 1,
        "major": 0,
        "minor": 1,
        "event_type": 0,
        "event_data": 1,
        "template_name": 0,
        "template_data": 1,
    }
)
"""The keys of all maps."""

CONTENT_TYPES: Mapping[str, int] = MappingProxyType(
    {
        "cel": CelType.CEL.value,
        "pcclient_std": CelType.PCCLIENT_STD.value,
        "ima_template": CelType.IMA_TEMPLATE.value,
        "ima_tlv": CelType.IMA_TLV.value,
        "systemd": CelType.SYSTEMD.value,
    }
)
MANAGEMENT_TYPES: Mapping[str, int] = MappingProxyType({kind.name.lower(): kind.value for kind in CelManagementType})
State = Literal["suspend", "hibernate", "kexec"]
STATES: Mapping[int, State] = MappingProxyType({0: "suspend", 1: "hibernate", 2: "kexec"})
STATES_BY_NAME: Mapping[str, int] = MappingProxyType({name: number for number, name in STATES.items()})
