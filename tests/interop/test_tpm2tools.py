"""The YAML equals what tpm2-tools prints: its own golden files, and the installed program where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from measlog import EventLog
from measlog.formats.cursor import Cursor
from measlog.formats.pfp import LogEvent, build_log
from measlog.interop.efivar import format_path
from measlog.interop.tpm2tools import DevicePaths, to_yaml
from measlog.interop.yamltext import Hex, dump
from measlog.records import DevicePath
from measlog.records.device_path import read_path
from tests.conftest import shared_path
from tests.records.logs import log_id, own_logs, shared_logs

VERSION_2 = {"event-arch-linux", "event-gce-ubuntu-2104-log", "event-moklisttrusted", "event-sd-boot-fedora37"}
FOLDERS: dict[str, DevicePaths] = {"event-raw": "raw", "event-pretty": "efivar37", "event-pretty-39": "efivar39"}
NAMES = [
    "event-arch-linux",
    "event-bootorder",
    "event-gce-ubuntu-2104-log",
    "event-moklisttrusted",
    "event-postcode",
    "event-sd-boot-fedora37",
    "event-uefi-sha1-log",
    "event-uefiaction",
    "event-uefiservices",
    "event-uefivar",
]


def _log(name: str) -> EventLog:
    stem = "ubuntu-2104-no-dbx" if name == "event-gce-ubuntu-2104-log" else name
    return EventLog.from_bytes(shared_path("corpus", "logs", f"{stem}.bin").read_bytes())


def _load(text: str) -> Any:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _list_of_events(text: str) -> Any:
    """Rule 1: for a log in the SHA-1 format the tool prints one mapping in which every event repeats the same keys."""
    return _load(re.sub(r"^  PCRIndex:", "- PCRIndex:", text, flags=re.MULTILINE))


def _whole_texts(ours: Any, theirs: Any) -> Any:
    """Rule 2: the tool cuts hex off at 1,024 bytes."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return {key: _whole_texts(ours.get(key), value) for key, value in theirs.items()}
    if isinstance(theirs, list) and isinstance(ours, list) and len(ours) == len(theirs):
        return [_whole_texts(a, b) for a, b in zip(ours, theirs, strict=True)]
    if isinstance(theirs, str) and isinstance(ours, str) and len(theirs) == 2048 and ours.startswith(theirs):
        return ours
    return theirs


def _bare_certificates(ours: Any, theirs: Any) -> None:
    """Rule 3: where shim logs a bare certificate, the tool takes its first 16 bytes for the owner."""
    for one, other in zip(ours["events"], theirs["events"], strict=True):
        value = other.get("Event", {}).get("VariableData") if isinstance(other.get("Event"), dict) else None
        if other["EventType"] == "EV_EFI_VARIABLE_AUTHORITY" and isinstance(value, list):
            (said,) = value
            raw = UUID(said["SignatureOwner"]).bytes_le.hex() + said["SignatureData"]
            if raw.startswith("3082"):
                assert one["Event"]["VariableData"] == raw
                other["Event"]["VariableData"] = raw


def _unquoted(value: Any) -> Any:
    """Rule 4: tpm2-tools 5.4 writes a text as a block of quoted lines, without the ends of lines."""
    if isinstance(value, dict):
        return {key: _lines(item) if key == "String" else _unquoted(item) for key, item in value.items()}
    return [_unquoted(item) for item in value] if isinstance(value, list) else value


def _lines(text: str) -> str:
    # Within the quotes it escapes the NUL alone.
    return "\n".join(line[1:-1].replace("\\0", "\0") for line in text.split("\n")) if text[:1] == '"' else text


def _without_last_line_end(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: item.removesuffix("\n") if key == "String" else _without_last_line_end(item)
            for key, item in value.items()
        }
    return [_without_last_line_end(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_golden_file(name: str, folder: str) -> None:
    text = shared_path("corpus", "tpm2-tools-golden", folder, f"{name}.bin.yaml").read_text()
    expected = _list_of_events(text) if name == "event-uefi-sha1-log" else _load(text)
    version: Literal[1, 2] = 2 if name in VERSION_2 else 1
    found = _load(to_yaml(_log(name), version=version, device_paths=FOLDERS[folder]))
    _bare_certificates(found, expected)
    assert found == _whole_texts(found, expected)


@pytest.mark.parametrize("name", ["event", "specid-vendordata"])
def test_equals_the_golden_file_without_paths(name: str) -> None:
    expected = _load(shared_path("corpus", "tpm2-tools-golden", f"{name}.bin.yaml").read_text())
    assert _load(to_yaml(_log(name))) == expected


def _with_the_tool(path: Path, version: int, *, expect: int = 0) -> str:
    program = shutil.which("tpm2_eventlog")
    if program is None:
        pytest.skip("needs tpm2_eventlog, which is not installed")
    command = [program, f"--eventlog-version={version}", str(path)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    if done.returncode != expect:
        pytest.skip(f"the installed tpm2_eventlog refuses this log: {done.stderr.decode(errors='replace')[-120:]}")
    return done.stdout.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("path", own_logs()[:2] + shared_logs()[-2:], ids=log_id)
@pytest.mark.parametrize("version", [1, 2])
def test_equals_what_the_installed_tool_prints(path: Path, version: Literal[1, 2]) -> None:
    text = _with_the_tool(path, version)
    forms: tuple[DevicePaths, ...] = ("raw", "efivar37", "efivar39")
    log = EventLog.from_bytes(path.read_bytes())
    expected = _unquoted(_load(text))
    found = [_load(to_yaml(log, version=version, device_paths=form)) for form in forms]
    if "String: |-" in text:
        found = [_without_last_line_end(one) for one in found]
    # How the tool was built decides about the form of its device paths.
    assert any(one == _whole_texts(one, expected) for one in found)


def test_registers_of_the_tool_are_an_option() -> None:
    # tpm2-tools 5.4 extends EV_NO_ACTION and does not know the startup locality.
    path = shared_path("corpus", "logs", "glinux-alex.bin")
    log = EventLog.from_bytes(path.read_bytes())
    right = _load(to_yaml(log))["pcrs"]
    wrong = _load(to_yaml(log, tpm2tools_replay=True))["pcrs"]
    # The first value is in the log's expected.json, the second is what the program prints.
    assert right["sha1"][0] == 0x29D236609A5F9CC6912AF44BA5F57B13A17C8A84
    assert wrong["sha1"][0] == 0xFAF6E04E58687BBEDD28CB902B3516B0CF4B79DD
    assert {i: v for i, v in right["sha1"].items() if i} == {i: v for i, v in wrong["sha1"].items() if i}
    assert wrong == _load(_with_the_tool(path, 1))["pcrs"]


@pytest.mark.parametrize("path", [*own_logs()[:3], *shared_logs()], ids=log_id)
def test_every_log_gives_yaml(path: Path) -> None:
    log = EventLog.from_bytes(path.read_bytes())
    choices: tuple[tuple[Literal[1, 2], DevicePaths], ...] = ((1, "raw"), (2, "efivar37"), (2, "efivar39"))
    for version, form in choices:
        found = _load(to_yaml(log, version=version, device_paths=form))
        assert len(found["events"]) == len(log)
        for said, event in zip(found["events"], log, strict=True):
            assert (said["PCRIndex"], said["EventSize"]) == (event.register.index, len(event.raw))
            if event.digests:
                assert {d["AlgorithmId"]: d["Digest"] for d in said["Digests"]} == {
                    name: digest.hex() for name, digest in event.digests.items()
                }


def test_text_from_a_log_cannot_become_structure() -> None:
    # A35: quotes, line ends, document marks and terminal escapes in event data and variable names
    hostile = b'x"\n  PCRIndex: 0\n---\n\x1b[2J\xff\\'
    digest = {"sha256": bytes(32)}
    name = 'a"\n- b: \x1b]0;'.encode("utf-16-le")
    variable = bytes(16) + (len(name) // 2).to_bytes(8, "little") + bytes(8) + name
    log = EventLog.from_bytes(
        build_log(
            [
                LogEvent(8, 0xD, digest, hostile),
                LogEvent(4, 0x80000007, digest, hostile),
                LogEvent(7, 0x80000001, digest, variable),
            ],
            algorithms=["sha256"],
        )
    )
    text = to_yaml(log, version=2)
    assert all(0x20 <= ord(char) < 0x7F or char == "\n" for char in text)
    events = _load(text)["events"]
    assert len(events) == 4
    assert events[1]["Event"]["String"] == events[2]["Event"] == hostile.decode("latin-1")
    assert events[3]["Event"]["UnicodeName"] == name.decode("utf-16-le")


# YAML 1.2, 7.4.2: a key within a line has at most 1,024 characters.
_keys = st.text(min_size=1, max_size=20)
_scalars = st.one_of(
    st.text(), st.integers(), st.sampled_from(["yes", "NULL", "~", "0x10", "- a", "a: b", "", "1e3", "#", "<<"])
)
_values: st.SearchStrategy[Any] = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(st.dictionaries(_keys, inner, min_size=1), min_size=1),
        st.dictionaries(_keys, inner, min_size=1),
    ),
    max_leaves=12,
)


@given(st.dictionaries(_keys, _values, max_size=4))
def test_what_is_written_is_read_as_it_was(value: dict[str, Any]) -> None:
    # PyYAML is the independent reader.
    assert _load(dump(value)) == (value or None)


def test_numbers_in_hex_keep_their_width() -> None:
    assert dump({"a": Hex(0x1F), "b": Hex(1, 4)}) == "---\na: 0x1f\nb: 0x0001\n"


def test_paths_of_efivar() -> None:
    path = DevicePath.from_text("PciRoot(0x0)/Pci(0x1F,0x2)/Sata(0x1,0xFFFF,0x0)/\\a.efi")
    assert format_path(path.nodes, "efivar39") == "PciRoot(0x0)/Pci(0x1f,0x2)/Sata(1,65535,0)/\\a.efi"
    assert format_path(path.nodes, "efivar37") == "PciRoot(0x0)/Pci(0x1f,0x2)/Sata(1,65535,0)/File(\\a.efi)"
    # A device path that efivar prints in no way of its own
    assert format_path(DevicePath.from_text("Vlan(3)").nodes, "efivar37") == "Vlan(3)"


@pytest.mark.parametrize("kind", [0, 3])
def test_a_disk_without_a_signature_of_a_known_kind(kind: int) -> None:
    # UEFI 2.10, 10.3.5.1: type 1 is MBR, 2 is GPT; libefivar prints the number and the raw bytes of any other.
    node = f"04012a00 02000000 0008000000000000 0010000000000000 {'78563412' * 4} 01 {kind:02x} 7fff0400"
    path = read_path(Cursor(bytes.fromhex(node)))
    assert format_path(path.nodes, "efivar39") == f"HD(2,{kind},{'78563412' * 4},0x800,0x1000)"


def test_a_disk_with_a_master_boot_record() -> None:
    node = "04012a00 02000000 0008000000000000 0010000000000000 78563412 000000000000000000000000 01 01 7fff0400"
    path = read_path(Cursor(bytes.fromhex(node)))
    assert format_path(path.nodes, "efivar39") == "HD(2,MBR,0x12345678,0x800,0x1000)"


def test_documents_that_the_tool_does_not_print_are_refused() -> None:
    log = _log("event-postcode")
    with pytest.raises(ValueError, match="there is no version 3 of this document"):
        to_yaml(log, version=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no form of device paths is called efivar38"):
        to_yaml(log, device_paths="efivar38")  # type: ignore[arg-type]


def test_an_event_without_data_has_none_in_the_document() -> None:
    digests = {"sha256": bytes(32)}
    log = EventLog.from_bytes(build_log([LogEvent(4, 5, digests, b"")], algorithms=["sha256"]))
    (event,) = _load(to_yaml(log))["events"][1:]
    assert (event["EventSize"], "Event" in event) == (0, False)


def test_only_texts_numbers_and_collections_have_a_form() -> None:
    for value in (1.5, b"x", object(), True):
        with pytest.raises(TypeError, match="no YAML form for"):
            dump({"a": value})


def test_half_a_character_is_replaced() -> None:
    # UTF-16 text of a log may hold unpaired surrogates, which no YAML reader takes; U+FFFD stands for them.
    assert _load(dump({"a": "x\ud800y"})) == {"a": "x\ufffdy"}
