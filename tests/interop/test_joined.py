"""All logs of one machine as one history: the firmware's, systemd's and IMA's, each read by its own reader.

The values are those that the TPM reported (``pcrs.json``) and quoted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

import measlog as ml
from measlog.errors import ReplayError
from measlog.interop.ima import ImaLog
from measlog.interop.systemdlog import read_userspace_log
from measlog.log import FurtherEvent, FurtherRecord, JoinedLog
from tests.conftest import FIXTURES

NAMES = ("uki", "uki-sb-off", "uki-tampered-cmdline")
IMA_REGISTER = 10


def logs(name: str) -> tuple[ml.EventLog, ImaLog, JoinedLog]:
    folder = FIXTURES / name
    firmware = ml.EventLog.from_bytes((folder / "binary_bios_measurements").read_bytes())
    ima = ImaLog.from_bytes((folder / "binary_runtime_measurements").read_bytes())
    systemd = read_userspace_log((folder / "tpm2-measure.log").read_bytes())
    return firmware, ima, JoinedLog.of(firmware, {"systemd": systemd, "ima": ima})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bank", ["sha1", "sha256"])
def test_every_register_that_the_tpm_reports_is_explained(name: str, bank: str) -> None:
    reported = json.loads((FIXTURES / name / "pcrs.json").read_text())[bank]
    _, _, joined = logs(name)
    replayed = joined.replay(bank)
    values = {int(pcr): bytes.fromhex(value) for pcr, value in reported.items()}
    assert {pcr: replayed[pcr] if pcr in replayed else replayed.reset_value(pcr) for pcr in values} == values
    assert {IMA_REGISTER, 11} <= set(replayed)


def test_a_quote_is_explained_and_each_event_says_whose_it_is() -> None:
    folder = FIXTURES / "uki"
    firmware, ima, joined = logs("uki")
    sources = {e.pcr: set[str]() for e in joined}
    for event in joined:
        sources[event.pcr].add(event.source if isinstance(event, FurtherEvent) else "firmware")
    assert (sources[IMA_REGISTER], sources[11], sources[4]) == ({"ima"}, {"firmware", "systemd"}, {"firmware"})
    assert [e.text for e in joined if isinstance(e, FurtherEvent) and e.source == "ima"] == [one.name for one in ima]
    quote = ml.Quote.from_bytes((folder / "quote.msg").read_bytes(), (folder / "quote.sig").read_bytes())
    further: dict[str, Iterable[FurtherRecord]] = {
        "systemd": read_userspace_log((folder / "tpm2-measure.log").read_bytes()),
        "ima": ima,
    }
    nonce = bytes.fromhex((folder / "nonce.txt").read_text())
    ak = (folder / "ak.pub").read_bytes()
    verified = ml.Evidence(log=firmware, quote=quote, further=further).verify(ak=ak, nonce=nonce)
    assert verified.unexplained == ()
    # Without IMA's log PCR 10 is what nobody explains, and without its last entry it is another value (A36).
    with pytest.raises(ml.EvidenceError):
        ml.Evidence(log=firmware, quote=quote, further={"systemd": further["systemd"]}).verify(ak=ak, nonce=nonce)
    with pytest.raises(ml.EvidenceError):
        ml.Evidence(log=firmware, quote=quote, further={**further, "ima": ima[:-1]}).verify(ak=ak, nonce=nonce)


def test_one_log_does_not_speak_for_anothers_register() -> None:
    firmware, ima, _ = logs("uki")
    with pytest.raises(ReplayError, match="claims PCR 10 too"):
        JoinedLog.of(firmware, {"one": ima, "other": ima})
