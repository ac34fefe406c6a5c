"""No attack passes: each is mounted on good boots, and refused by the layer that has to refuse it, for its reason."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import pytest

import measlog as ml
from fixtures.attacks import __main__ as writer
from fixtures.attacks.catalogue import ATTACKS, GOOD_BOOTS, NOT_MOUNTED, good_boot
from fixtures.attacks.model import Attack, Good, NotApplicableError
from measlog.formats.tpm2 import parse_pcr_file
from tests.attacks.judge import judge
from tests.attacks.weak_points import WEAK_POINTS
from tests.conftest import ROOT

# With Secure Boot on and off; the other boots differ in what the attacks do not touch.
ORDINARY = ("flatcar-lab-good", "sb-off-good")


@cache
def boot(name: str) -> Good:
    return good_boot(name)


boots = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ORDINARY else pytest.mark.slow) for n in GOOD_BOOTS]
)


@pytest.mark.parametrize("name", GOOD_BOOTS)
def test_the_boots_pass_unchanged(name: str) -> None:
    """Otherwise the refusals below would say nothing."""
    good = boot(name)
    verdict = judge(good, good.honest())
    assert (verdict.layer, verdict.status, verdict.codes) == ("passed", "affirming", frozenset())
    assert good.honest().log == good.data


@boots
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.id.replace("\n", " LF "))
def test_refused(name: str, attack: Attack) -> None:
    good = boot(name)
    try:
        bundle = attack.mount(good)
    except NotApplicableError as reason:
        # Each attack is mounted on at least one boot: see below.
        pytest.skip(str(reason))
    verdict = judge(good, bundle, attack.needs)
    assert verdict.layer == attack.refused_by, verdict
    assert verdict.codes & set(attack.because), verdict


@boots
def test_settings_of_the_policy_refuse_nothing_by_themselves(name: str) -> None:
    """What an attack needs to be one does not refuse the boot as it was."""
    good = boot(name)
    floors = {"minimum_dbx", "minimum_sbat"}
    for attack in ATTACKS:
        # Without Secure Boot nothing is revoked, and floors are not reached.
        if attack.needs and (good.secure_boot or not floors & set(attack.needs)):
            assert judge(good, good.honest(), attack.needs).layer == "passed", attack.id


def test_every_attack_is_mounted_somewhere() -> None:
    for attack in ATTACKS:
        mounted = 0
        for name in GOOD_BOOTS:
            try:
                attack.mount(boot(name))
            except NotApplicableError:
                continue
            mounted += 1
        assert mounted, attack.id


def test_the_list_is_complete() -> None:
    """A1 to A50: mounted here, or named with why not."""
    mounted = {attack.number for attack in ATTACKS}
    assert not mounted & set(NOT_MOUNTED)
    assert mounted | set(NOT_MOUNTED) == set(range(1, 51))
    assert len(mounted) >= 42
    assert len({attack.id for attack in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize("number", range(1, 18))
def test_weak_points_of_other_tools(number: int) -> None:
    """Each is covered by an attack or a test that exists."""
    sentence, where = WEAK_POINTS[number]
    assert sentence
    names = {attack.id for attack in ATTACKS}
    for place in where:
        path, _, function = place.partition("::")
        if place.startswith("A"):
            assert place in names
        else:
            text = (ROOT / path).read_text()
            assert f"def {function}(" in text if function else "def test_" in text


def test_bank_is_the_one_asked_for() -> None:
    """A quote over another bank passes for that bank alone (A10, A11)."""
    good = boot("flatcar-lab-good")
    attack = next(a for a in ATTACKS if a.name == "a quote over another bank")
    bundle = attack.mount(good)
    log, quote = ml.EventLog.from_bytes(bundle.log), ml.Quote.from_bytes(bundle.attest, bundle.signature)
    evidence = ml.Evidence(log=log, quote=quote)
    assert evidence.verify(ak=bundle.ak, nonce=bundle.nonce, bank="sha384").bank == "sha384"


def test_written_for_other_verifiers(tmp_path: Path) -> None:
    """Files on disk, and a table of what must be refused."""
    assert writer.main(["-o", str(tmp_path), "flatcar-lab-good"]) == 0
    rows = list(csv.DictReader((tmp_path / "table.tsv").read_text().splitlines(), delimiter="\t"))
    assert rows[0]["must_be"] == "accepted"
    assert {row["must_be"] for row in rows[1:]} == {"refused"}
    assert len({row["folder"] for row in rows}) == len(rows) > 100
    good = boot("flatcar-lab-good")
    for row in rows:
        folder = tmp_path / row["folder"]
        assert {p.name for p in folder.iterdir()} - {"quote.pcrs"} == {
            "ak.pub", "binary_bios_measurements", "manifest.dsse.json", "quote.msg", "quote.sig",
        }  # fmt: skip
    plain = tmp_path / rows[0]["folder"]
    assert (plain / "binary_bios_measurements").read_bytes() == good.data
    values = {i: good.log.registers(0x0B)[i] for i in range(15)}
    assert parse_pcr_file(writer.register_file(values)) == {"sha256": values}
