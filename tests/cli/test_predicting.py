"""predict, diff and convert. What is predicted is compared with what the TPM reported after the real boot."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fixtures.attacks.forge import ForgedLog
from measlog.cli.boots import boots_of
from measlog.errors import FormatError
from measlog.log import EventLog
from tests.cli.command import Runner

CHOSEN = ("--secure-boot", "on", "--slot", "a", "--first-boot")


@pytest.fixture
def good(fixtures: Path) -> Path:
    return fixtures / "flatcar-lab-good"


@pytest.fixture
def release(fixtures: Path, good: Path) -> tuple[str | Path, ...]:
    return good / "manifest.dsse.json", "--manifest-key", fixtures / "lab" / "keys" / "manifest.pub"


@pytest.fixture
def reported(good: Path) -> dict[str, dict[str, str]]:
    values: dict[str, dict[str, str]] = json.loads((good / "pcrs.json").read_text())
    return values


@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384"])
def test_the_boot_that_happened_is_among_the_predicted_ones(
    measlog: Runner, release: tuple[str, ...], reported: dict[str, dict[str, str]], bank: str
) -> None:
    done = measlog("predict", *release, "--json", "--bank", bank)
    assert (done.status, done.err) == (0, "")
    boots = {boot["name"]: boot for boot in done.document["boots"]}
    assert len(boots) > 1
    (boot,) = measlog("predict", *release, *CHOSEN, "--format", "json", "--bank", bank).document["boots"]
    assert boots[boot["name"]] == boot
    assert (boot["slot"], boot["first_boot"], boot["secure_boot"]) == ("a", True, True)
    assert set(boot["pcrs"]) == {bank}
    assert set(boot["pcrs"][bank]) >= {"4", "8", "9", "14"}
    assert boot["pcrs"][bank] == {pcr: reported[bank][pcr] for pcr in boot["pcrs"][bank]}
    assert set(boot["unknown"]).isdisjoint(boot["pcrs"][bank])


def test_predicted_boots_as_tables(
    measlog: Runner, release: tuple[str, ...], reported: dict[str, dict[str, str]]
) -> None:
    done = measlog("predict", *release, *CHOSEN)
    assert done.status == 0
    assert reported["sha256"]["8"] in done.out
    assert "set linux_root=root=LABEL=ROOT" in done.out


def test_without_a_key_the_missing_check_is_said(measlog: Runner, release: tuple[str, ...]) -> None:
    done = measlog("predict", release[0], *CHOSEN, "--json")
    assert done.status == 0
    assert "not verified" in done.err
    done.document["boots"]


def test_an_oem_configuration_changes_what_follows(measlog: Runner, release: tuple[str, ...], fixtures: Path) -> None:
    tampered = fixtures / "flatcar-lab-tampered"
    words = ("--oem-grub-cfg", tampered / "oem-grub.cfg", "--json")
    (boot,) = measlog("predict", *release, *CHOSEN, *words).document["boots"]
    reported = json.loads((tampered / "pcrs.json").read_text())["sha256"]
    assert {pcr: reported[pcr] for pcr in ("4", "8", "9", "14")} == {
        pcr: boot["pcrs"]["sha256"][pcr] for pcr in ("4", "8", "9", "14")
    }


def test_arguments_one_by_one(measlog: Runner, release: tuple[str, ...], fixtures: Path, tmp_path: Path) -> None:
    """The real file's last line is what the arguments make; the registers are those that the TPM reported."""
    folder = fixtures / "oem-ec2"
    *lines, last = (folder / "oem-grub.cfg").read_bytes().splitlines(keepends=True)
    (tmp_path / "grub.cfg").write_bytes(b"".join(lines))
    given = [w for word in last.decode().rstrip('"\n').split()[2:] for w in ("--argument", word)]
    assert len(given) == 4
    words: tuple[str | Path, ...] = ("--oem-grub-cfg", tmp_path / "grub.cfg", "--json", *given)
    (boot,) = measlog("predict", *release, *CHOSEN, *words).document["boots"]
    reported = json.loads((folder / "pcrs.json").read_text())["sha256"]
    for pcr in ("4", "8", "9", "14"):
        assert boot["pcrs"]["sha256"][pcr] == reported[pcr]


def test_rules_for_arguments(measlog: Runner, release: tuple[str, ...], fixtures: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('format = "measlog.arguments/1"\n[[arguments]]\nname = "quiet"\n')
    words: tuple[str | Path, ...] = ("predict", *release, *CHOSEN, "--argument-rules", rules)
    done = measlog(*words, "--json")
    (boot,) = done.document["boots"]
    assert {"8", "9"} <= boot["unknown"].keys()
    (line,) = (event for event in boot["events"] if "arguments" in event)
    assert line["kind"] == "cmdline"
    assert line["text"].endswith(" {arguments}")
    assert line["digests"] == {}
    assert line["arguments"]["rules"] == [
        {"name": "quiet", "values": None, "pattern": None, "repeat": False, "override": False}
    ]
    # What was not computed is not compared, and said.
    (tmp_path / "boot.json").write_text(done.out)
    log = fixtures / "oem-ec2" / "binary_bios_measurements"
    assert "not compared: PCR 8: the kernel's arguments are given by rules" in measlog("diff", log, tmp_path / "boot.json").out  # fmt: skip
    # Nor is anything sealed to it.
    sealed = measlog(*words, "--format", "tpm2")
    assert sealed.status == 3
    assert "register 8 is not known" in sealed.err
    rules.write_text('format = "measlog.arguments/1"\n[[arguments]]\nname = "--"\n')
    bad = measlog(*words)
    assert (bad.status, "rules.toml: line 3: " in bad.err) == (3, True)
    assert measlog(*words, "--argument", "quiet").status == 2
    lost = measlog("predict", *release, *CHOSEN, "--argument", 'a="b c"')
    assert (lost.status, "cannot reach the kernel" in lost.err) == (3, True)


def test_forms_of_other_tools(
    measlog: Runner, release: tuple[str, ...], reported: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    values = {pcr: reported["sha256"][pcr] for pcr in ("4", "8", "9")}
    raw = bytes.fromhex("".join(values.values()))
    words = ("predict", *release, *CHOSEN, "--format")
    expected = "+".join(f"{pcr}:sha256={value}" for pcr, value in values.items())
    assert measlog(*words, "cryptenroll").out == f"--tpm2-pcrs={expected}\n"
    pin, configuration = shlex.split(measlog(*words, "clevis").out)
    assert pin == "tpm2"
    assert json.loads(configuration)["pcr_ids"] == "4,8,9"
    document = measlog(*words, "tpm2").document
    (branch,) = document["branches"]
    assert (branch["selection"], branch["values"]) == ("sha256:4,8,9", raw.hex())
    # TPM 2.0 Part 3, PolicyPCR: hash of the old digest, the command code, the selection and the hash of the values.
    selection = bytes.fromhex("00000001 000b 03 100300".replace(" ", ""))
    policy = hashlib.sha256(bytes(32) + bytes.fromhex("0000017f") + selection + hashlib.sha256(raw).digest())
    assert document["policy"] == policy.hexdigest()
    folder = tmp_path / "pcrlock.d"
    assert measlog(*words, "pcrlock", "-o", folder).status == 0
    (component,) = folder.rglob("*.pcrlock")
    assert {record["pcr"] for record in json.loads(component.read_text())["records"]} == {4, 8, 9}
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    assert measlog(*words, "pcrsig", "--key", tmp_path / "key.pem", "-o", tmp_path / "sig.json").status == 0
    (signed,) = json.loads((tmp_path / "sig.json").read_text())["sha256"]
    assert (signed["pcrs"], signed["pol"]) == ([4, 8, 9], policy.hexdigest())


def test_several_boots_are_alternatives(measlog: Runner, release: tuple[str, ...]) -> None:
    document = measlog("predict", *release, "--secure-boot", "on", "--format", "tpm2").document
    assert len(document["branches"]) > 1
    assert all(branch["policy_or"] for branch in document["branches"])
    pin, _ = shlex.split(measlog("predict", *release, "--secure-boot", "on", "--format", "clevis").out)
    assert pin == "sss"


@pytest.mark.parametrize(
    "words",
    [
        ("--pcrs", ""),
        ("--pcrs", "24"),
        ("--pcrs", "4,,8"),
        ("--pcrs", "4,4"),
        ("--pcrs", "-1"),
        ("--slot", "c"),
        ("--secure-boot", "maybe"),
        ("--format", "pcrlock"),
        ("--format", "pcrsig"),
        ("--key", "x"),
        ("--json", "--format", "clevis"),
        ("--bank", "md5"),
    ],
    ids=" ".join,
)
def test_wrong_usage(measlog: Runner, release: tuple[str, ...], words: tuple[str, ...]) -> None:
    done = measlog("predict", *release, *words)
    assert (done.status, done.out) == (2, "")


def test_what_is_not_known_is_not_sealed_to(measlog: Runner, release: tuple[str, ...], tmp_path: Path) -> None:
    for form in ("cryptenroll", "clevis", "tpm2", "pcrlock"):
        words = (*CHOSEN, "--pcrs", "0,4", "--format", form, "-o", tmp_path / "out")
        done = measlog("predict", *release, *words)
        assert (done.status, done.out) == (3, "")
        assert "PCR 0" in done.err or "register 0" in done.err
    assert not (tmp_path / "out").exists()


def test_where_no_boot_is_predicted_nothing_is_written(
    measlog: Runner, release: tuple[str, ...], tmp_path: Path
) -> None:
    # An installation starts from slot A. A policy over nothing would be one that any boot keeps.
    for form in ((), *(("--format", form, "-o", tmp_path / "out") for form in ("json", "clevis", "pcrlock", "tpm2"))):
        done = measlog("predict", *release, "--slot", "b", "--first-boot", *form)
        assert (done.status, done.out) == (3, "")
        assert done.err == f"measlog: {release[0]}: no boot of this kind is predicted\n"
    assert not (tmp_path / "out").exists()


def test_a_prediction_of_another_bank_is_no_agreement(
    measlog: Runner, good: Path, release: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "boots.json").write_text(measlog("predict", *release, *CHOSEN, "--json").out)
    done = measlog("diff", good / "binary_bios_measurements", tmp_path / "boots.json", "--bank", "sha384")
    assert (done.status, done.out) == (3, "")
    assert "nothing is predicted of the bank sha384" in done.err


def test_a_log_has_no_difference_to_itself_nor_to_its_prediction(
    measlog: Runner, release: tuple[str, ...], good: Path, tmp_path: Path
) -> None:
    log = good / "binary_bios_measurements"
    assert measlog("diff", log, log, "--json").document["differences"] == []
    predicted = tmp_path / "predicted.json"
    predicted.write_text(measlog("predict", *release, "--json").out)
    for pair in ((log, predicted), (predicted, log)):
        done = measlog("diff", *pair, "--json")
        assert done.status == 0
        document = done.document
        assert document["boot"] == "slot a, first boot, Secure Boot on"
        assert document["compared"] > 40
        assert set(document["not_compared"]) >= {"0", "1", "7"}
    assert "closest predicted boot: slot a, first boot" in measlog("diff", log, predicted).out
    done = measlog("diff", predicted, predicted)
    assert done.status == 2


def test_logs_that_differ_are_status_1_and_the_place_is_named(measlog: Runner, fixtures: Path, good: Path) -> None:
    left, right = good / "binary_bios_measurements", fixtures / "flatcar-lab-tampered" / "binary_bios_measurements"
    done = measlog("diff", left, right, "--json")
    assert (done.status, done.err) == (1, "")
    found = done.document["differences"]
    assert {d["pcr"] for d in found} == {8, 9}
    arguments = [d for d in found if d["right"] and d["right"]["text"].endswith("init=/bin/sh")]
    assert arguments
    events = ForgedLog.take_apart(right.read_bytes()).events
    for difference in arguments:
        event = events[difference["right"]["event"] - 1]
        assert event.digests[0x000B].hex() == difference["right"]["digest"]
    text = measlog("diff", left, right)
    assert text.status == 1
    assert "init=/bin/sh" in text.out


def test_what_a_log_has_beyond_its_prediction_is_inserted_on_the_side_of_the_log(
    measlog: Runner, release: tuple[str, ...], fixtures: Path, tmp_path: Path
) -> None:
    log, predicted = fixtures / "flatcar-lab-tampered" / "binary_bios_measurements", tmp_path / "predicted.json"
    predicted.write_text(measlog("predict", *release, "--json").out)
    command = "grub_cmd: source (hd0,gpt6)/grub.cfg"  # no release has it: the boot was tampered with there
    number = next(e.index for e in EventLog.from_bytes(log.read_bytes()) if e.raw.rstrip(b"\0") == command.encode())
    for pair, kind, side, other in (
        ((predicted, log), "inserted", "right", "left"),
        ((log, predicted), "deleted", "left", "right"),
    ):
        first = measlog("diff", *pair, "--json").document["differences"][0]
        assert (first["pcr"], first["kind"], first[other]) == (8, kind, None)
        assert (first[side]["event"], first[side]["text"]) == (number, command)
        assert f"PCR 8, event {number}: {kind}\n  {side:5}: {command}\n" in without_nothing(measlog("diff", *pair).out)


def without_nothing(text: str) -> str:
    """The lines of a difference without the side that has nothing there."""
    return text.replace("  left : (nothing)\n", "").replace("  right: (nothing)\n", "")


def predicted_document(**changes: Any) -> dict[str, Any]:
    event = {"pcr": 8, "kind": "command", "type": 13, "text": "x", "digests": {"sha256": "00" * 32}}
    boot: dict[str, Any] = {
        "name": "n", "release": "r", "bootloader": "b", "outcome": "kernel", "slot": "a", "chosen": "a",
        "first_boot": True, "secure_boot": True, "oem": False, "assumptions": [], "command_line": None,
        "pcrs": {"sha256": {"8": "11" * 32}}, "unknown": {"0": "why"}, "events": [event | changes.pop("event", {})],
    }  # fmt: skip
    return {"measlog": "predict/1", "boots": [boot | changes]}


def test_a_predicted_boot_is_read_back() -> None:
    (boot,) = boots_of(json.dumps(predicted_document()).encode())
    assert boot.pcrs["sha256"][8] == bytes.fromhex("11" * 32)
    assert boot.events[0].text == b"x"
    assert boot.unknown == {0: "why"}


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"name": 1}, "boots[0].name"),
        ({"first_boot": 1}, "boots[0].first_boot"),
        ({"slot": "c"}, "boots[0].slot"),
        ({"pcrs": []}, "boots[0].pcrs"),
        ({"pcrs": {"md5": {}}}, "boots[0].pcrs"),
        ({"pcrs": {"sha256": []}}, "boots[0].pcrs.sha256"),
        ({"pcrs": {"sha256": {"24": "00" * 32}}}, "boots[0].pcrs.sha256"),
        ({"pcrs": {"sha256": {"8": "00"}}}, "boots[0].pcrs.sha256"),
        ({"pcrs": {"sha256": {"8": 1}}}, "boots[0].pcrs.sha256"),
        ({"unknown": {"x": "y"}}, "boots[0].unknown"),
        ({"unknown": {"1": 2}}, "boots[0].unknown"),
        ({"events": [1]}, "boots[0].events[0]"),
        ({"events": {}}, "boots[0].events"),
        ({"event": {"pcr": 24}}, "boots[0].events[0].pcr"),
        ({"event": {"pcr": -1}}, "boots[0].events[0].pcr"),
        ({"event": {"pcr": True}}, "boots[0].events[0].pcr"),
        ({"event": {"type": -1}}, "boots[0].events[0].type"),
        ({"event": {"type": 1 << 32}}, "boots[0].events[0].type"),
        ({"event": {"digests": {"sha256": "zz" * 32}}}, "boots[0].events[0].digests.sha256"),
    ],
)
def test_what_is_no_predicted_boot_is_refused_with_the_place(
    measlog: Runner, good: Path, tmp_path: Path, changes: dict[str, Any], place: str
) -> None:
    data = json.dumps(predicted_document(**changes)).encode()
    with pytest.raises(FormatError) as caught:
        boots_of(data)
    assert caught.value.path == place
    path = tmp_path / "p.json"
    path.write_bytes(data)
    done = measlog("diff", good / "binary_bios_measurements", path)
    assert done.status == 3
    assert done.err.startswith(f"measlog: {path}: {place}: ")


@pytest.mark.parametrize("data", [b"{", b"{}", b'{"measlog": "show/1"}', b'{"measlog": "predict/1", "boots": []}'])
def test_other_documents_are_no_predicted_boots(data: bytes) -> None:
    with pytest.raises(FormatError):
        boots_of(data)


def test_a_boot_is_identified_by_its_digests(measlog: Runner, release: tuple[str, ...], good: Path) -> None:
    manifest, option, key = release
    log = good / "binary_bios_measurements"
    words = (log, "--manifest", manifest, option, key)
    document = measlog("identify", *words, "--json").document
    assert document["slot"] == "a"
    assert document["boot_paths"] == ["slot a, first boot, Secure Boot on"]
    components = json.loads(measlog("manifest", "show", manifest, "--json").out)["manifest"]["components"]
    known = {c["authenticode"]["sha256"]: c["role"] for c in components}
    programs = [(p["digest"], p["role"]) for p in document["programs"] if p["pcr"] == 4]
    assert {role for _, role in programs} == {"shim", "grub", "kernel"}
    assert all(known[digest] == role for digest, role in programs)
    assert document["unknown"] == []
    text = measlog("identify", *words)
    assert text.status == 0
    assert "slot a, first boot, Secure Boot on" in text.out
    assert "not verified" in measlog("identify", log, "--manifest", manifest).err


def test_an_unknown_boot_is_not_identified(measlog: Runner, shared: Path, release: tuple[str, ...]) -> None:
    log = shared / "corpus" / "logs" / "debian-10.bin"
    document = measlog("identify", log, "--manifest", *release, "--json").document
    assert (document["release"], document["boot_paths"], document["programs"]) == (None, [], [])
    assert document["unknown"]


def test_convert_gives_what_the_converters_give(measlog: Runner, good: Path, tmp_path: Path) -> None:
    log = good / "binary_bios_measurements"
    document = yaml.safe_load(measlog("convert", log, "--to", "yaml").out)
    assert len(document["events"]) == len(ForgedLog.take_apart(log.read_bytes()).events) + 1
    reported = json.loads((good / "pcrs.json").read_text())["sha256"]
    assert f"{document['pcrs']['sha256'][8]:064x}" == reported["8"]
    done = measlog("convert", log, "--to", "yaml", "--eventlog-version", "2", "-o", tmp_path / "out.yaml")
    assert (done.status, done.out) == (0, "")
    assert yaml.safe_load((tmp_path / "out.yaml").read_text())["version"] == 2
    shown = measlog("convert", log, "--to", "json").document
    assert shown == measlog("show", log, "--json").document


def test_what_is_sealed_for_an_update_opens_on_the_way_back(measlog: Runner, fixtures: Path) -> None:
    """A failed update must lock nobody out: both slots are among the alternatives, the one that was asked for first."""
    good = fixtures / "flatcar-lab-good"
    words: list[str | Path] = [
        "predict",
        good / "manifest.dsse.json",
        "--manifest-key",
        fixtures / "lab" / "keys" / "manifest.pub",
        "--log",
        good / "binary_bios_measurements",
        "--pcrs",
        "4,8,9",
        "--format",
        "cryptenroll",
    ]
    one, both = measlog(*words), measlog(*words, "--slot", "b")
    assert both.status == 0
    assert sorted(both.out.splitlines()) == sorted(one.out.splitlines())
    assert len(both.out.splitlines()) > 1
    assert "way back" in both.err


UNIFIED = ("--phase", "enter-initrd:leave-initrd:sysinit:ready", "--pcrs", "4,7,11,12")


@pytest.fixture
def unified_update(fixtures: Path) -> tuple[str | Path, ...]:
    """An update of a machine that boots unified kernel images: the new release, the machine's log, its release."""
    return (
        fixtures / "uki-tampered-cmdline" / "image.dsse.json",
        "--manifest-key",
        fixtures / "lab" / "keys" / "manifest.pub",
        "--log",
        fixtures / "uki" / "binary_bios_measurements",
        "--bootloader-manifest",
        fixtures / "uki" / "manifest.dsse.json",
    )


def pcrs_of(fixtures: Path, name: str) -> dict[str, str]:
    values: dict[str, str] = json.loads((fixtures / name / "pcrs.json").read_text())["sha256"]
    return values


def test_the_next_boot_of_a_unified_image_s_machine(
    measlog: Runner, unified_update: tuple[str, ...], fixtures: Path, tmp_path: Path
) -> None:
    """The values are those that the TPM reported before and after; each is one state, the way back included."""
    before, after = pcrs_of(fixtures, "uki"), pcrs_of(fixtures, "uki-tampered-cmdline")
    done = measlog("predict", *unified_update, *UNIFIED, "--format", "cryptenroll")
    assert done.status == 0
    lines = [
        "--tpm2-pcrs=" + "+".join(f"{pcr}:sha256={values[pcr]}" for pcr in ("4", "7", "11", "12"))
        for values in (before, after)
    ]
    assert done.out.splitlines() == lines
    policy = measlog("predict", *unified_update, *UNIFIED, "--format", "tpm2").document
    assert [branch["values"] for branch in policy["branches"]] == [
        "".join(values[pcr] for pcr in ("4", "7", "11", "12")) for values in (before, after)
    ]
    pin, configuration = shlex.split(measlog("predict", *unified_update, *UNIFIED, "--format", "clevis").out)
    assert pin == "sss"
    assert len(json.loads(configuration)["pins"]["tpm2"]) == 2
    # TPM 2.0 Part 3, PolicyPCR: the selection of 4, 7, 11 and 12, and the hash of the values.
    selection = bytes.fromhex("0000017f 00000001 000b 03 901800")
    policies = [
        hashlib.sha256(
            bytes(32)
            + selection
            + hashlib.sha256(bytes.fromhex("".join(values[pcr] for pcr in ("4", "7", "11", "12")))).digest()
        ).hexdigest()
        for values in (before, after)
    ]
    key = rsa.generate_private_key(65537, 2048)
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    words = ("--format", "pcrsig", "--key", tmp_path / "key.pem", "-o", tmp_path / "sig.json")
    assert measlog("predict", *unified_update, *UNIFIED, *words).status == 0
    signed = json.loads((tmp_path / "sig.json").read_text())["sha256"]
    assert [one["pol"] for one in signed] == policies
    folder = tmp_path / "pcrlock.d"
    assert measlog("predict", *unified_update, *UNIFIED, "--format", "pcrlock", "-o", folder).status == 0
    assert len(list(folder.rglob("*.pcrlock"))) == 2


def test_what_moves_is_said_in_tables_and_documents(measlog: Runner, unified_update: tuple[str, ...]) -> None:
    (_, update, back) = measlog("predict", *unified_update, *UNIFIED, "--json").document["boots"]
    assert {pcr for pcr, why in update["moves"].items() if why.startswith("changes")} == {"4", "9", "11", "12"}
    assert all(why.startswith("stays") for why in back["moves"].values())
    out = measlog("predict", *unified_update, *UNIFIED).out
    assert out.count("PCR 11 changes: ") == 1
    assert "stays: " not in out


def test_a_phase_is_one_that_there_is(
    measlog: Runner, unified_update: tuple[str, ...], release: tuple[str, ...]
) -> None:
    assert measlog("predict", *unified_update, "--phase", "sysinit").status == 3
    done = measlog("predict", *release, "--phase", "enter-initrd")
    assert done.status == 3
    assert "phases" in done.err
