"""Numbers and names, against the tables of the TCG and against other implementations."""

from __future__ import annotations

import copy
import hashlib
import pickle
import subprocess
import sys
from typing import Any

import pytest

from measlog.registry import (
    ALGORITHMS,
    ALGORITHMS_BY_NAME,
    GUID_NAMES,
    PCR_NAMES,
    EventType,
    Register,
    algorithm_name,
    hash_constructor,
)

# TCG Algorithm Registry 1.34, table 3
IDS = {0x04: "sha1", 0x0B: "sha256", 0x0C: "sha384", 0x0D: "sha512", 0x12: "sm3_256", 0x27: "sha3_256", 0x28: "sha3_384", 0x29: "sha3_512"}  # fmt: skip


def test_algorithms() -> None:
    assert {alg: known.name for alg, known in ALGORITHMS.items()} == IDS
    assert {name: known.id for name, known in ALGORITHMS_BY_NAME.items()} == {name: alg for alg, name in IDS.items()}
    for name, known in ALGORITHMS_BY_NAME.items():
        assert known.size == (32 if name == "sm3_256" else hashlib.new(name).digest_size)
        new = hash_constructor(name)
        if name != "sm3_256":
            assert new is not None
        if new is not None:
            made = new(b"ab")
            made.update(b"c")
            assert made.digest() == hashlib.new("sm3" if name == "sm3_256" else name, b"abc").digest()


def test_sm3() -> None:
    """GB/T 32905-2016, example 1."""
    new = hash_constructor("sm3_256")
    if new is None:
        assert "sm3" not in hashlib.algorithms_available
        pytest.skip("this Python has no SM3")
    assert new(b"abc").digest().hex() == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    assert new().digest() == hashlib.new("sm3").digest()


def test_without_sm3() -> None:
    """A Python whose OpenSSL lacks it still imports, and says so."""
    program = (
        "import hashlib; hashlib.algorithms_available = hashlib.algorithms_available - {'sm3'}\n"
        "from measlog.registry import hash_constructor; print(hash_constructor('sm3_256'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "None\n"


def test_unknown_algorithms() -> None:
    assert (algorithm_name(0x0B), algorithm_name(0x99), algorithm_name(0xFFFF)) == ("sha256", "0x0099", "0xffff")
    assert hash_constructor("0x0099") is None
    assert hash_constructor("md5") is None


# PFP 1.06, table 9, and the SPDM types of table 9
NUMBERS = {
    "EV_PREBOOT_CERT": 0, "EV_POST_CODE": 1, "EV_UNUSED": 2, "EV_NO_ACTION": 3, "EV_SEPARATOR": 4, "EV_ACTION": 5,
    "EV_EVENT_TAG": 6, "EV_S_CRTM_CONTENTS": 7, "EV_S_CRTM_VERSION": 8, "EV_CPU_MICROCODE": 9,
    "EV_PLATFORM_CONFIG_FLAGS": 0xA, "EV_TABLE_OF_DEVICES": 0xB, "EV_COMPACT_HASH": 0xC, "EV_IPL": 0xD,
    "EV_IPL_PARTITION_DATA": 0xE, "EV_NONHOST_CODE": 0xF, "EV_NONHOST_CONFIG": 0x10, "EV_NONHOST_INFO": 0x11,
    "EV_OMIT_BOOT_DEVICE_EVENTS": 0x12, "EV_POST_CODE2": 0x13, "EV_EFI_EVENT_BASE": 0x80000000,
    "EV_EFI_VARIABLE_DRIVER_CONFIG": 0x80000001, "EV_EFI_VARIABLE_BOOT": 0x80000002,
    "EV_EFI_BOOT_SERVICES_APPLICATION": 0x80000003, "EV_EFI_BOOT_SERVICES_DRIVER": 0x80000004,
    "EV_EFI_RUNTIME_SERVICES_DRIVER": 0x80000005, "EV_EFI_GPT_EVENT": 0x80000006, "EV_EFI_ACTION": 0x80000007,
    "EV_EFI_PLATFORM_FIRMWARE_BLOB": 0x80000008, "EV_EFI_HANDOFF_TABLES": 0x80000009,
    "EV_EFI_PLATFORM_FIRMWARE_BLOB2": 0x8000000A, "EV_EFI_HANDOFF_TABLES2": 0x8000000B,
    "EV_EFI_VARIABLE_BOOT2": 0x8000000C, "EV_EFI_GPT_EVENT2": 0x8000000D, "EV_EFI_HCRTM_EVENT": 0x80000010,
    "EV_EFI_VARIABLE_AUTHORITY": 0x800000E0, "EV_EFI_SPDM_FIRMWARE_BLOB": 0x800000E1,
    "EV_EFI_SPDM_FIRMWARE_CONFIG": 0x800000E2, "EV_EFI_SPDM_DEVICE_POLICY": 0x800000E3,
    "EV_EFI_SPDM_DEVICE_AUTHORITY": 0x800000E4,
}  # fmt: skip


def test_event_types() -> None:
    assert {member.name: int(member) for member in EventType} == NUMBERS
    assert all(member.known for member in EventType)


@pytest.mark.parametrize("number", [0x14, 0x8000000E, 0xFFFFFFFF])
def test_unknown_event_types_are_kept(number: int) -> None:
    kind = EventType(number)
    assert (int(kind), kind.known, kind.name) == (number, False, f"EV_0x{number:08x}")
    assert kind == EventType(number) == number
    assert hash(kind) == hash(EventType(number))
    assert {kind: 1}[EventType(number)] == 1
    assert pickle.loads(pickle.dumps(kind)) == copy.deepcopy(kind) == kind
    assert len(EventType) == len(NUMBERS)


@pytest.mark.parametrize("wrong", [-1, 2**32, "EV_IPL", None])
def test_what_is_no_event_type(wrong: Any) -> None:
    with pytest.raises(ValueError, match="is not a valid EventType"):
        EventType(wrong)


def test_registers() -> None:
    assert [str(r) for r in (Register("pcr", 4), Register("rtmr", 0), Register("mrtd", 0), Register("none", 99))] == [
        "PCR 4", "RTMR 0", "MRTD", "NONE 99",
    ]  # fmt: skip
    assert min(Register("rtmr", 0), Register("pcr", 7), Register("pcr", 4)) == Register("pcr", 4)
    assert set(PCR_NAMES) <= set(range(24))
    assert len(set(PCR_NAMES.values())) == len(PCR_NAMES)
    assert len(set(GUID_NAMES.values())) == len(GUID_NAMES)
