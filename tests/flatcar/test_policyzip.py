"""Flatcar's policy archive: read, judged, and refused as a reference."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError, LimitExceededError
from measlog.flatcar.policyzip import RULE_LIMIT, PolicyZip, RuleVerdict
from measlog.reference.manifest import BootPath, ExpectedEvent
from tests.reference.test_manifest import make_manifest

KERNEL, LOADER = "2" * 40, "3" * 40
GOOD: dict[str, Any] = {
    "kernel.config": {
        "9": {"binaryvalues": [{"prefix": "grub_linux", "values": [{"value": KERNEL, "description": "k"}]}]}
    },
    "grub_loader.config": {
        "4": {"binaryvalues": [{"values": [{"value": LOADER, "description": "Flatcar Grub boot.img"}]}]}
    },
    "grub_modules.config": {"9": {"binaryvalues": [{"prefix": "grub_module", "values": [{"value": "4" * 40}]}]}},
    "kernel_cmdline.config": {
        "8": {
            "asciivalues": [{"prefix": "kernel_cmdline: ", "values": [{"value": r"/flatcar/vmlinuz-[ab] root=\\S+"}]}]
        }
    },
    "grub_commands.config": {
        "8": {
            "asciivalues": [
                {
                    "prefix": "grub_cmd: ",
                    "values": [{"value": "set first=(true|false)?"}, {"value": "insmod all_video"}],
                },
                {"prefix": "grub_cmd_old ", "values": [{"value": "set a=b"}]},
            ]
        }
    },
}


def zipped(documents: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, document in documents.items():
            archive.writestr(name, document if isinstance(document, bytes | str) else json.dumps(document))
    return out.getvalue()


def verdicts(documents: dict[str, Any], *, tried: bool = True) -> dict[str, RuleVerdict]:
    events = (
        ExpectedEvent(pcr=8, type=13, text="insmod all_video", digests={"sha1": bytes(20), "sha256": bytes(32)}),
        ExpectedEvent(pcr=9, type=13, text="x", digests={"sha1": bytes.fromhex(KERNEL), "sha256": bytes(32)}),
    )
    manifest = attrs.evolve(make_manifest(), boot_paths=(BootPath(name="boot", events=events),))
    judged = PolicyZip.from_bytes(zipped(documents)).judge(manifest if tried else None)
    return {one.rule.value: one for one in judged}


def test_every_value_is_judged() -> None:
    found = verdicts(GOOD)
    assert {value: one.verdict for value, one in found.items()} == {
        KERNEL: "matches",
        LOADER: "never",
        "4" * 40: "never",
        r"/flatcar/vmlinuz-[ab] root=\\S+": "broken",
        "set first=(true|false)?": "unmatched",
        "insmod all_video": "matches",
        "set a=b": "never",
    }
    assert "SHA-1" in found[KERNEL].reasons[0]
    assert "Authenticode" in found[LOADER].reasons[1]
    assert "backslash" in found[r"/flatcar/vmlinuz-[ab] root=\\S+"].reasons[0]
    assert "old GRUB" in found["set a=b"].reasons[1]


def test_without_a_release_nothing_is_said_to_match() -> None:
    assert {one.verdict for one in verdicts(GOOD, tried=False).values()} == {"possible", "never", "broken"}


def test_digests_are_handed_out_under_a_name_that_looks_wrong_alone() -> None:
    policy = PolicyZip.from_bytes(zipped(GOOD))
    assert policy.unsafe_bios_sha1_digests()[4] == {bytes.fromhex(LOADER): "Flatcar Grub boot.img"}
    assert [name for name in dir(policy) if "digest" in name] == ["unsafe_bios_sha1_digests"]


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", ".*.*.*.*.*x", r"(a)\1", "(?=a)a", "a" * 600])
def test_a_pattern_that_would_take_long_is_not_tried(pattern: str) -> None:
    document = {
        "grub_commands.config": {"8": {"asciivalues": [{"prefix": "grub_cmd: ", "values": [{"value": pattern}]}]}}
    }
    assert verdicts(document)[pattern].verdict == "possible"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a zip"),
        (b"PK\x03\x04" + bytes(50), "not a zip"),
        (zipped({}), "without a single value"),
        (zipped({"other": "{}"}), "holds 'other'"),
        (zipped({"kernel.config": b"{"}), "kernel.config: not JSON"),
        (zipped({"kernel.config": b" " * (2 << 20)}), "more than 1048576 bytes"),
        (zipped({"kernel.config": {"99": {}}}), "expected registers"),
        (zipped({"kernel.config": {"9": []}}), "expected registers"),
        (zipped({"kernel.config": {"9": {"binaryvalues": {}}}}), "expected a list"),
        (zipped({"kernel.config": {"9": {"binaryvalues": [1]}}}), "expected a prefix"),
        (zipped({"kernel.config": {"9": {"binaryvalues": [{"values": [{"value": 1}]}]}}}), "expected text"),
        (zipped({"kernel.config": '{"9": {}, "9": {}}'}), "twice"),
        (zipped({f"{n}/kernel.config": "{}" for n in range(2)}), "once"),
        (zipped({f"{n}": "{}" for n in range(9)}), "9 files"),
    ],
)
def test_an_archive_that_is_not_right_is_one_error(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        PolicyZip.from_bytes(data)


def test_values_that_are_none_are_broken() -> None:
    documents = {
        "kernel.config": {"9": {"binaryvalues": [{"values": [{"value": "abc"}]}]}},
        "kernel_cmdline.config": {"8": {"asciivalues": [{"values": [{"value": "("}]}]}},
    }
    assert {value: one.verdict for value, one in verdicts(documents).items()} == {"abc": "broken", "(": "broken"}


@given(st.data())
def test_any_change_is_an_archive_or_a_format_error(data: st.DataObject) -> None:
    packed = zipped(GOOD)
    place = data.draw(st.integers(0, len(packed)))
    change = data.draw(st.binary(max_size=4))
    try:
        PolicyZip.from_bytes(packed[:place] + change + packed[place + len(change) :]).judge(make_manifest())
    except FormatError:
        return


def binary(member: str, pcr: int, value: str, description: str = "") -> dict[str, Any]:
    return {member: {str(pcr): {"binaryvalues": [{"values": [{"value": value, "description": description}]}]}}}


def test_digests_of_files_that_no_event_has() -> None:
    # A kernel's flat digest: UEFI measures Authenticode digests into PCR 4, GRUB files into PCR 9 alone.
    one = verdicts(binary("kernel.config", 4, "5" * 40))["5" * 40]
    assert (one.verdict, one.reasons[1]) == (
        "never",
        "a digest of a file in PCR 4: UEFI measures programs by their Authenticode digest",
    )
    flat = make_manifest().components[0].flat["sha1"].hex()
    found = verdicts(binary("kernel.config", 8, flat))[flat]
    assert (found.verdict, found.reasons[1]) == ("unmatched", "a file of the release, but in another register")
    other = verdicts(binary("kernel.config", 8, "6" * 40))["6" * 40]
    assert (other.verdict, len(other.reasons)) == ("unmatched", 2)


def test_text_is_in_register_8_alone() -> None:
    document = {"grub_commands.config": {"9": {"asciivalues": [{"prefix": "grub_cmd: ", "values": [{"value": "a"}]}]}}}
    one = verdicts(document)["a"]
    assert (one.verdict, one.reasons[-1]) == ("never", "GRUB measures text into PCR 8 alone")


def test_the_number_of_values_is_bounded() -> None:
    def archive(count: int) -> bytes:
        values = [{"value": f"{number:040x}"} for number in range(count)]
        return zipped({"kernel.config": {"9": {"binaryvalues": [{"values": values}]}}})

    assert len(PolicyZip.from_bytes(archive(RULE_LIMIT)).rules) == RULE_LIMIT
    with pytest.raises(LimitExceededError, match=f"more than {RULE_LIMIT} values"):
        PolicyZip.from_bytes(archive(RULE_LIMIT + 1))
