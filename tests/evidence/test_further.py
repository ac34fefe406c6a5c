"""Evidence with the logs of the running system: what the quote of a real TPM proves of them.

The captures of unified kernel images: quotes by swtpm, systemd's log as the guest kept it.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping, Sequence

import pytest
from attrs import frozen

import measlog as ml
from fixtures.lab import userlogs
from measlog.errors import EvidenceError, PcrDigestError, ReplayError, SelectionError
from measlog.evidence import VerifiedEvidence
from measlog.formats.tpm2 import parse_pcr_file
from measlog.interop.systemdlog import SystemdRecord, read_userspace_log
from measlog.log import FurtherEvent
from measlog.registry import Register
from tests.conftest import FIXTURES

NAMES = ("uki", "uki-sb-off", "uki-tampered-cmdline")
Records = Sequence[SystemdRecord]


def records(name: str = "uki") -> Records:
    return read_userspace_log((FIXTURES / name / "tpm2-measure.log").read_bytes())


def evidence(
    name: str = "uki", further: Records | None = None, *, pcrs: bool = True, suffix: str = ""
) -> tuple[ml.Evidence, bytes, bytes]:
    folder = FIXTURES / name
    values = parse_pcr_file((folder / "quote.pcrs").read_bytes())["sha256"]
    # PCR 10 is IMA's: its value is needed, whoever explains it.
    given = values if pcrs else {10: values[10]}
    log = ml.EventLog.from_bytes((folder / "binary_bios_measurements").read_bytes())
    message, signature = (folder / f"quote{suffix}.msg").read_bytes(), (folder / f"quote{suffix}.sig").read_bytes()
    made = ml.Evidence(
        log=log,
        quote=ml.Quote.from_bytes(message, signature),
        pcrs=given,
        further={} if further is None else {"systemd": further},
    )
    return made, (folder / f"ak{suffix}.pub").read_bytes(), bytes.fromhex((folder / "nonce.txt").read_text())


def verify(name: str = "uki", further: Records | None = None, *, pcrs: bool = True) -> VerifiedEvidence:
    made, ak, nonce = evidence(name, further, pcrs=pcrs)
    return made.verify(ak=ak, nonce=nonce)


@pytest.mark.parametrize("suffix", ["", "-rsa"])
@pytest.mark.parametrize("name", NAMES)
def test_the_quote_is_explained_by_both_logs(name: str, suffix: str) -> None:
    made, ak, nonce = evidence(name, records(name), suffix=suffix)
    verified = made.verify(ak=ak, nonce=nonce)
    assert verified.unexplained == (10,)
    assert verified.open_ended == frozenset()
    history = verified.joined.history(Register("pcr", 11))
    assert [e.text for e in history if isinstance(e, FurtherEvent)] == [
        "enter-initrd", "leave-initrd", "sysinit", "ready",
    ]  # fmt: skip
    assert verified.log == made.log


def test_evidence_travels() -> None:
    made, ak, nonce = evidence("uki", records())
    again = pickle.loads(pickle.dumps(made))
    assert again.verify(ak=ak, nonce=nonce).values == made.verify(ak=ak, nonce=nonce).values


def foreign(record: SystemdRecord, text: str) -> SystemdRecord:
    digests = {bank: hashlib.new(bank, text.encode()).digest() for bank in record.digests}
    return SystemdRecord.of(record.register, text, digests)


TAMPERED: dict[str, Callable[[Records], Records]] = {
    "none": lambda r: r[:0],
    "truncated": lambda r: r[:-1],
    "beginning cut off": lambda r: r[1:],
    "reordered": lambda r: [r[1], r[0], *r[2:]],
    "doubled": lambda r: [*r, r[-1]],
    "one skipped": lambda r: [r[0], *r[2:]],
    "one more": lambda r: [*r, foreign(r[0], "shutdown")],
    "another text with its digest": lambda r: [*r[:-1], foreign(r[-1], "final")],
    "another boot's, where it differs": lambda r: [foreign(r[0], "enter-initrd "), *r[1:]],
    "a register that is not quoted as it says": lambda r: [
        *r, SystemdRecord(register=Register("pcr", 12), digests=r[0].digests, content={}),
    ],
    "in a register that nothing extended": lambda r: [
        *r, SystemdRecord(register=Register("pcr", 13), digests=r[0].digests, content={}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("pcrs", [True, False], ids=["registers given", "quote alone"])
@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_a_tampered_log_does_not_fit_the_quote(change: Callable[[Records], Records], pcrs: bool) -> None:
    with pytest.raises(ReplayError if pcrs else PcrDigestError) as caught:
        verify("uki", change(records()), pcrs=pcrs)
    assert caught.value.check == ("replay" if pcrs else "pcr-digest")


@pytest.mark.parametrize("index", [0, 4, 7, 8, 14, 17])
def test_registers_of_the_firmware_cannot_be_explained_away(index: int) -> None:
    record = SystemdRecord(register=Register("pcr", index), digests=records()[0].digests, content={})
    with pytest.raises(ReplayError) as caught:
        verify("uki", [*records(), record])
    assert caught.value.check == "further-register"


def test_an_unproven_text_changes_nothing_that_is_proven() -> None:
    """The text is covered by no digest of the quote: a lie about it is for the policy to find, by the digest."""
    lying = [SystemdRecord(register=r.register, digests=r.digests, content={"string": "lie"}) for r in records()]
    verified = verify("uki", lying)
    last = verified.joined[-1]
    assert last.check("sha256").status == "not_derivable"


def test_an_open_ended_register_takes_its_value_from_the_quote() -> None:
    made, ak, nonce = evidence("uki", None)
    with pytest.raises(ReplayError, match="PCR 11"):
        made.verify(ak=ak, nonce=nonce)
    verified = made.verify(ak=ak, nonce=nonce, open_ended=(10, 11))
    assert verified.open_ended == {11}
    assert verified.unexplained == (10, 11)
    assert verified.values[11] == (made.pcrs or {})[11]
    # With the log there is nothing left open.
    made, ak, nonce = evidence("uki", records())
    verified = made.verify(ak=ak, nonce=nonce, open_ended=(10, 11))
    assert (verified.open_ended, verified.unexplained) == (frozenset(), (10,))


def test_only_the_quotes_value_of_an_open_ended_register_counts() -> None:
    made, ak, nonce = evidence("uki", None)
    wrong = ml.Evidence(log=made.log, quote=made.quote, pcrs={**(made.pcrs or {}), 11: bytes(32)})
    with pytest.raises(PcrDigestError):
        wrong.verify(ak=ak, nonce=nonce, open_ended=(11,))
    # Not given, it is what the log says, which is not what was quoted.
    made, ak, nonce = evidence("uki", None, pcrs=False)
    with pytest.raises(PcrDigestError):
        made.verify(ak=ak, nonce=nonce, open_ended=(11,))


@pytest.mark.parametrize("index", [0, 4, 8, 9, 14, 16, 23, 24])
def test_what_the_boot_is_judged_by_is_not_left_open(index: int) -> None:
    made, ak, nonce = evidence("uki", records())
    with pytest.raises(SelectionError) as caught:
        made.verify(ak=ak, nonce=nonce, open_ended=(index,))
    assert caught.value.check == "open-ended"


def test_the_firmwares_registers_stay_proven_beside_an_open_one() -> None:
    made, ak, nonce = evidence("uki", None)
    data = made.log.to_bytes()
    event = next(e for e in made.log if e.pcr == 4 and e.index > 20)
    at = data.index(event.digests["sha256"], event.offset)
    other = ml.EventLog.from_bytes(data[:at] + bytes(32) + data[at + 32 :])
    changed = ml.Evidence(log=other, quote=made.quote, pcrs=made.pcrs)
    with pytest.raises(EvidenceError, match="PCR 4"):
        changed.verify(ak=ak, nonce=nonce, open_ended=(10, 11))


@frozen
class Entry:
    """An entry of another log, read by nothing of the library."""

    register: Register
    digests: Mapping[str, bytes]
    text: str


@pytest.mark.parametrize("name", NAMES)
def test_three_logs_explain_every_register(name: str) -> None:
    """IMA's log as the lab reads it: what the kernel extends is the hash of the template data (``ima_template.c``)."""
    made, ak, nonce = evidence(name, records(name))
    log = (FIXTURES / name / "binary_runtime_measurements").read_bytes()
    entries = [
        Entry(Register("pcr", pcr), {"sha256": hashlib.sha256(data).digest()}, template)
        for pcr, _, template, data in userlogs.ima_entries(log)
    ]
    joined = ml.Evidence(log=made.log, quote=made.quote, further={**made.further, "ima": entries})
    verified = joined.verify(ak=ak, nonce=nonce)
    assert verified.unexplained == ()
    history = verified.joined.history(Register("pcr", 10))
    assert [e.source for e in history if isinstance(e, FurtherEvent)] == ["ima"] * len(entries)
    for wrong in (entries[:-1], entries[::-1] if len(entries) > 1 else [], [*entries, entries[0]]):
        changed = ml.Evidence(log=made.log, quote=made.quote, further={**made.further, "ima": wrong})
        with pytest.raises(PcrDigestError):
            changed.verify(ak=ak, nonce=nonce)
