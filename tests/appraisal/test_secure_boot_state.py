"""What is read from PCR 7 before anything is demanded of it: what is proven, and what each event is explained by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from measlog.appraisal.case import Case
from measlog.appraisal.secureboot import SecureBootState, read_state
from tests.appraisal.machine import Change, appraise, codes, good_log, lines, machine
from tests.appraisal.test_impostors import ON, authorities, in_place_of_the_second, signed, vendors
from tests.appraisal.test_secure_boot import ACTION, AUTHORITY, SHIM, at_end, event, variable


def state_of(change: Change) -> SecureBootState:
    log = good_log()
    return read_state(Case(evidence=machine(log.with_events(change(log.events))), manifests=(), baselines=()))


def shims_certificate(behind: bytes, *, unhashed: int) -> Change:
    """Shim names its own certificate, bare; the digest leaves out the last bytes of the event's data (Q2, Q31)."""
    data = variable(SHIM, "Shim", authorities()[1] + behind)
    return in_place_of_the_second(replace(event(AUTHORITY, data[: len(data) - unhashed]), data=data))


@pytest.mark.parametrize(
    ("behind", "unhashed", "quirks"),
    [
        pytest.param(b"", 0, (), id="nothing left out"),
        pytest.param(b"\0", 0, (), id="a byte behind the certificate, hashed"),
        pytest.param(b"\0", 1, ("Q31",), id="a byte behind the certificate, not hashed"),
    ],
)
def test_a_bare_certificate_that_was_hashed_to_its_end_is_proven(
    behind: bytes, unhashed: int, quirks: tuple[str, ...]
) -> None:
    result = appraise(ON, shims_certificate(behind, unhashed=unhashed), manifests=[vendors(authorities()[1])])
    assert (result.status, lines(result), result.quirks) == ("affirming", [], quirks)


def test_a_bare_certificate_whose_last_byte_was_not_hashed_is_not_proven() -> None:
    """A47: the byte that may be left out stands behind the certificate, never in it."""
    result = appraise(ON, shims_certificate(b"", unhashed=1), manifests=[vendors(authorities()[1])])
    place = max(i + 1 for i, e in enumerate(good_log().events) if e.type == AUTHORITY)
    assert result.status == "contraindicated"
    assert (
        f"error secureboot.unauthenticated PCR 7 event {place}: the digest does not cover name and GUID of the variable"
        " 'Shim' (Q31)"
    ) in lines(result)


@pytest.mark.parametrize(
    ("text", "kind", "quirks"),
    [
        (b"UEFI Debug Mode", "debug", set()),
        (b"DMA Protection Disabled", "dma", set()),
        (b"DMA Protection Disabled\0", "dma", {"Q8"}),
    ],
)
def test_an_action_that_weakens_the_platform_is_explained_and_named(text: bytes, kind: str, quirks: set[str]) -> None:
    """PFP 3.3.4.8 has firmware measure them: they are nothing unknown, whatever follows from them."""
    state = state_of(at_end(event(ACTION, text)))
    last = len(good_log().events) + 1
    assert [(said, measured.index) for said, measured in state.actions] == [(kind, last)]
    assert state.explained == [*(i + 1 for i, e in enumerate(good_log().events) if e.pcr == 7), last]
    assert (state.problems, state.quirks) == ([], quirks)


@pytest.mark.parametrize("value", [b"", b"\x30", b"\x30\x82\x01\x00"])
def test_an_authority_that_is_no_signature_is_refused_where_signers_are_known(value: bytes) -> None:
    """A30: too short for an owner, it has no certificate and no digest by which an image could be verified."""
    short = at_end(event(AUTHORITY, variable(SHIM, "Shim", value)))
    assert codes(appraise(ON, short, manifests=[signed()])) >= {"secureboot.authority", "secureboot.authority-unused"}
