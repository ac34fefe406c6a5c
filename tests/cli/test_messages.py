"""What the commands say where something is wrong: in one line, with the file once, and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Runner


@pytest.fixture
def good(fixtures: Path) -> Path:
    return fixtures / "flatcar-lab-good"


@pytest.fixture
def key(fixtures: Path) -> Path:
    return fixtures / "lab" / "keys" / "manifest.pub"


def verify(measlog: Runner, good: Path, *words: str | Path) -> str:
    nonce = (good / "nonce.txt").read_text().strip()
    done = measlog("verify", good, "--nonce", nonce, *words)
    assert (done.status, done.out) == (3, "")
    assert done.err.count("\n") == 1
    return done.err


def test_choices_stand_in_one_line(measlog: Runner, good: Path) -> None:
    done = measlog("convert", good / "binary_bios_measurements")
    assert done.status == 2
    assert "'--to'. Choose from: yaml, json" in done.err
    assert "\\x" not in done.err


def test_a_policy_that_is_neither_named_nor_a_file(measlog: Runner, good: Path, key: Path) -> None:
    said = verify(
        measlog, good, "--manifest", good / "manifest.dsse.json", "--manifest-key", key, "--policy", "flatcar-strict"
    )
    assert "flatcar-strict: neither the name of a policy (flatcar, flatcar-secure-boot-off) nor a file" in said


# The words of a command, in which G is an evidence folder and KEY signs its manifest; exit status; what is said.
SLIPS: list[tuple[str, int, str]] = [
    ("shw G/quote.msg", 2, "No such command 'shw'. Did you mean 'show'?"),
    ("nonsense", 2, "No such command 'nonsense'.\n"),
    ("manifest check G/manifest.dsse.json --manifest-key PRIVATE", 3, "a private key, where the public one is needed"),
    (
        "manifest check G/manifest.dsse.json --manifest-key KEY --min-version 1.0.0",
        2,
        "'1.0.0' is not a manifest's ver",
    ),
    ("manifest check G/manifest.dsse.json --manifest-key KEY --min-version -1", 2, "--min-version"),
    ("manifest show EMPTY", 3, "manifest: not JSON: it is empty"),
    ("manifest show G/binary_bios_measurements", 3, "manifest: not JSON: not UTF-8 at byte "),
    ("manifest show G", 3, "Is a directory"),
    (
        "quote --quote G/quote.msg --signature G/quote.sig --ak EMPTY --nonce 00",
        3,
        "EMPTY: neither a PEM public key nor",
    ),
    ("quote --quote G/quote.msg --signature G/quote.sig --ak G/ek.crt --nonce 00", 3, "neither a PEM public key nor a"),
    ("quote --quote G/quote.sig --signature G/quote.msg --ak G/ak.pub --nonce 00", 3, "not made by a TPM's quote comm"),
    ("bulk cohorts G", 3, "G: Is a directory\n"),
    ("bulk verify G --manifest G/manifest.dsse.json --manifest-key KEY -o OUT", 3, "G: Is a directory\n"),
    ("diff G/binary_bios_measurements G/manifest.dsse.json", 3, "expected the document predict/1"),
    ("baseline learn G -o OUT", 2, "is not FOLDER=NONCEHEX"),
]


@pytest.mark.parametrize(("words", "status", "said"), SLIPS, ids=[row[0] for row in SLIPS])
def test_the_slips_of_a_new_user_are_told_in_one_line_and_leave_nothing_behind(
    measlog: Runner, good: Path, key: Path, tmp_path: Path, words: str, status: int, said: str
) -> None:
    if words.startswith("bulk"):
        pytest.importorskip("pyarrow")
    (tmp_path / "EMPTY").write_bytes(b"")
    places = {"KEY": key, "PRIVATE": key.with_suffix(".key"), "EMPTY": tmp_path / "EMPTY", "OUT": tmp_path / "OUT"}
    line = [str(places.get(word, word)) for word in words.split()]
    done = measlog(*(str(good) + word[1:] if word == "G" or word.startswith("G/") else word for word in line))
    assert (done.status, done.out) == (status, "")
    assert said in done.err.replace(str(good), "G").replace(str(tmp_path) + "/", "")
    # One line, and for wrong usage where to read on.
    assert done.err.count("\n") == (2 if status == 2 else 1)
    assert [path.name for path in tmp_path.iterdir()] == ["EMPTY"]


def test_a_signed_manifest_is_not_signed_again(measlog: Runner, good: Path, fixtures: Path, tmp_path: Path) -> None:
    private = fixtures / "lab" / "keys" / "manifest.key"
    done = measlog("manifest", "sign", good / "manifest.dsse.json", "--key", private, "-o", tmp_path / "twice.json")
    assert done.status == 3
    assert "a signed manifest, where an unsigned one is needed" in done.err
    assert not (tmp_path / "twice.json").exists()


def test_an_unsigned_manifest_where_a_signed_one_is_needed(
    measlog: Runner, good: Path, key: Path, tmp_path: Path
) -> None:
    unsigned = tmp_path / "unsigned.json"
    unsigned.write_text('{"format": "measlog.manifest/1"}')
    assert "is this a signed manifest?" in verify(measlog, good, "--manifest", unsigned, "--manifest-key", key)


def test_json_that_is_no_manifest(measlog: Runner, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    done = measlog("manifest", "show", other)
    assert done.status == 3
    assert "format: missing, expected 'measlog.manifest/1'; is this a manifest?" in done.err


def test_an_accepted_manifest_is_said_to_be(measlog: Runner, good: Path, key: Path) -> None:
    done = measlog("manifest", "check", good / "manifest.dsse.json", "--manifest-key", key)
    assert done.status == 0
    assert done.out.startswith("accepted: ")


@pytest.mark.parametrize("words", [("verify", "-o", "out.parquet"), ("cohorts",)])
def test_tables_that_are_none(
    measlog: Runner, good: Path, key: Path, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    options = ("--manifest", good / "manifest.dsse.json", "--manifest-key", key) if words[0] == "verify" else ()
    text = tmp_path / "fleet.parquet"
    text.write_text("no table")
    for path, said in ((text, "not a Parquet file"), (tmp_path / "nothing", "No such file or directory")):
        done = measlog("bulk", words[0], path, *words[1:], *options)
        assert (done.status, done.out) == (3, "")
        assert said in done.err
        assert done.err.count(str(path)) == 1
