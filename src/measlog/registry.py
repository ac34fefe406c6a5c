"""Numbers and names: TPM algorithms, event types, register names, well-known GUIDs. No logic."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, Protocol, Self
from uuid import UUID

from attrs import frozen

__all__ = [
    "ALGORITHMS",
    "ALGORITHMS_BY_NAME",
    "EFI_GLOBAL_VARIABLE",
    "EFI_IMAGE_SECURITY_DATABASE",
    "GUID_NAMES",
    "PCR_NAMES",
    "SHIM_LOCK",
    "Algorithm",
    "EventType",
    "Hash",
    "Register",
    "RegisterKind",
    "algorithm_name",
    "hash_constructor",
]


@frozen
class Algorithm:
    """A hash algorithm of the TCG Algorithm Registry, table 3: TPM_ALG_ID, measlog's name, digest size in bytes."""

    id: int
    name: str
    size: int


ALGORITHMS: Mapping[int, Algorithm] = MappingProxyType(
    {
        a.id: a
        for a in (
            Algorithm(0x0004, "sha1", 20),
            Algorithm(0x000B, "sha256", 32),
            Algorithm(0x000C, "sha384", 48),
            Algorithm(0x000D, "sha512", 64),
            Algorithm(0x0012, "sm3_256", 32),
            Algorithm(0x0027, "sha3_256", 32),
            Algorithm(0x0028, "sha3_384", 48),
            Algorithm(0x0029, "sha3_512", 64),
        )
    }
)
ALGORITHMS_BY_NAME: Mapping[str, Algorithm] = MappingProxyType({a.name: a for a in ALGORITHMS.values()})


def algorithm_name(alg_id: int) -> str:
    """measlog's name of a TPM_ALG_ID; unknown ones are written as ``0x0099``."""
    known = ALGORITHMS.get(alg_id)
    return known.name if known is not None else f"0x{alg_id:04x}"


class Hash(Protocol):
    """What the objects of :mod:`hashlib` do."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take in more bytes."""

    def digest(self) -> bytes:
        """The hash of all bytes so far."""
        ...


def _sm3(data: bytes | memoryview = b"") -> Hash:
    # hashlib has SM3 only where OpenSSL brings it; then its name is sm3.
    return hashlib.new("sm3", data)


_CONSTRUCTORS: dict[str, Callable[..., Hash]] = {
    "sha1": hashlib.sha1,
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
    "sha3_256": hashlib.sha3_256,
    "sha3_384": hashlib.sha3_384,
    "sha3_512": hashlib.sha3_512,
}
if "sm3" in hashlib.algorithms_available:
    _CONSTRUCTORS["sm3_256"] = _sm3


def hash_constructor(name: str) -> Callable[..., Hash] | None:
    """The ``hashlib`` constructor of an algorithm, or ``None`` where this Python cannot compute it."""
    return _CONSTRUCTORS.get(name)


class EventType(enum.IntEnum):
    """TCG_EVENTTYPE (PC Client Platform Firmware Profile 1.06, clause 10.4.1). Numbers without a name are kept."""

    EV_PREBOOT_CERT = 0x00000000
    EV_POST_CODE = 0x00000001
    EV_UNUSED = 0x00000002
    EV_NO_ACTION = 0x00000003
    EV_SEPARATOR = 0x00000004
    EV_ACTION = 0x00000005
    EV_EVENT_TAG = 0x00000006
    EV_S_CRTM_CONTENTS = 0x00000007
    EV_S_CRTM_VERSION = 0x00000008
    EV_CPU_MICROCODE = 0x00000009
    EV_PLATFORM_CONFIG_FLAGS = 0x0000000A
    EV_TABLE_OF_DEVICES = 0x0000000B
    EV_COMPACT_HASH = 0x0000000C
    EV_IPL = 0x0000000D
    EV_IPL_PARTITION_DATA = 0x0000000E
    EV_NONHOST_CODE = 0x0000000F
    EV_NONHOST_CONFIG = 0x00000010
    EV_NONHOST_INFO = 0x00000011
    EV_OMIT_BOOT_DEVICE_EVENTS = 0x00000012
    EV_POST_CODE2 = 0x00000013
    EV_EFI_EVENT_BASE = 0x80000000
    EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
    EV_EFI_VARIABLE_BOOT = 0x80000002
    EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
    EV_EFI_BOOT_SERVICES_DRIVER = 0x80000004
    EV_EFI_RUNTIME_SERVICES_DRIVER = 0x80000005
    EV_EFI_GPT_EVENT = 0x80000006
    EV_EFI_ACTION = 0x80000007
    EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
    EV_EFI_HANDOFF_TABLES = 0x80000009
    EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
    EV_EFI_HANDOFF_TABLES2 = 0x8000000B
    EV_EFI_VARIABLE_BOOT2 = 0x8000000C
    EV_EFI_GPT_EVENT2 = 0x8000000D
    EV_EFI_HCRTM_EVENT = 0x80000010
    EV_EFI_VARIABLE_AUTHORITY = 0x800000E0
    EV_EFI_SPDM_FIRMWARE_BLOB = 0x800000E1
    EV_EFI_SPDM_FIRMWARE_CONFIG = 0x800000E2
    EV_EFI_SPDM_DEVICE_POLICY = 0x800000E3
    EV_EFI_SPDM_DEVICE_AUTHORITY = 0x800000E4

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or not 0 <= value <= 0xFFFFFFFF:
            return None
        unknown = int.__new__(cls, value)
        unknown._name_ = f"EV_0x{value:08x}"
        unknown._value_ = value
        return unknown

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        """By number: a number without a name is no member that could be found by one."""
        return type(self), (int(self),)

    @property
    def known(self) -> bool:
        """Whether the profile gives this number a name."""
        return self._value_ in type(self)._value2member_map_


RegisterKind = Literal["pcr", "mrtd", "rtmr", "nv", "none"]


@frozen(order=True)
class Register:
    """What an event extends: a TPM's PCR or NV index, a TDX measurement register, or nothing (``none``).

    ``index`` is the number within its kind: RTMR 0 is ``Register("rtmr", 0)`` though its MR index in a CCEL is 1. That of an
    NV index is its handle.
    """

    kind: RegisterKind
    index: int

    def __str__(self) -> str:
        if self.kind == "nv":
            return f"NV 0x{self.index:08x}"
        return "MRTD" if self.kind == "mrtd" else f"{self.kind.upper()} {self.index}"


PCR_NAMES: Mapping[int, str] = MappingProxyType(
    {
        0: "platform-code",
        1: "platform-config",
        2: "external-code",
        3: "external-config",
        4: "boot-loader-code",
        5: "boot-loader-config",
        6: "host-platform",
        7: "secure-boot-policy",
        8: "boot-loader-commands",
        9: "kernel-initrd",
        10: "ima",
        11: "kernel-boot",
        12: "kernel-config",
        13: "sysexts",
        14: "shim-policy",
        15: "system-identity",
        16: "debug",
        17: "drtm-details",
        18: "drtm-authorities",
        23: "application-support",
    }
)
"""Names as systemd and Linux use them (systemd-cryptenroll's table; 8, 17 and 18 have none there)."""

EFI_GLOBAL_VARIABLE = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
EFI_IMAGE_SECURITY_DATABASE = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
SHIM_LOCK = UUID("605dab50-e046-4300-abb6-3dd810dd8b23")

GUID_NAMES: Mapping[UUID, str] = MappingProxyType(
    {
        EFI_GLOBAL_VARIABLE: "EFI_GLOBAL_VARIABLE",
        EFI_IMAGE_SECURITY_DATABASE: "EFI_IMAGE_SECURITY_DATABASE",
        SHIM_LOCK: "SHIM_LOCK",
        UUID("77fa9abd-0359-4d32-bd60-28f4e78f784b"): "MICROSOFT_OWNER",
        UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"): "EFI_SYSTEM_PARTITION",
        UUID("21686148-6449-6e6f-744e-656564454649"): "BIOS_BOOT_PARTITION",
        UUID("5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6"): "FLATCAR_USR",
        UUID("0fc63daf-8483-4772-8e79-3d69d8477de4"): "LINUX_FILESYSTEM",
        UUID("c95dc21a-df0e-4340-8d7b-26cbfa9a03e0"): "FLATCAR_OEM_CONFIG",
        UUID("3884dd41-8582-4404-b9a8-e9b84f2df50e"): "FLATCAR_ROOT",
        UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072"): "EFI_CERT_X509",
        UUID("826ca512-cf10-4ac9-b187-be01496631bd"): "EFI_CERT_SHA1",
        UUID("c1c41626-504c-4092-aca9-41f936934328"): "EFI_CERT_SHA256",
        UUID("0b6e5233-a65c-44c9-9407-d9ab83bfc8bd"): "EFI_CERT_SHA224",
        UUID("ff3e5307-9fd0-48c9-85f1-8ad56c701e01"): "EFI_CERT_SHA384",
        UUID("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a"): "EFI_CERT_SHA512",
        UUID("3c5766e8-269c-4e34-aa14-ed776e85b3b6"): "EFI_CERT_RSA2048",
        UUID("e2b36190-879b-4a3d-ad8d-f2e7bba32784"): "EFI_CERT_RSA2048_SHA256",
        UUID("67f8444f-8743-48f1-a328-1eaab8736080"): "EFI_CERT_RSA2048_SHA1",
        UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed"): "EFI_CERT_X509_SHA256",
        UUID("7076876e-80c2-4ee6-aad2-28b349a6865b"): "EFI_CERT_X509_SHA384",
        UUID("446dbf63-2502-4cda-bcfa-2465d2b0fe9d"): "EFI_CERT_X509_SHA512",
    }
)
