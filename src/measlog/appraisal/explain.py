"""What probably happened where a register is not what it should be.

Each hypothesis is a history that the register would have if it were true, and with it a value. One whose value is the
register's is confirmed: nothing else differs there. The others are shown for a person to weigh.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from attrs import field, frozen

from measlog.appraisal.rules.boundaries import EXIT_FAILURE, EXIT_INVOCATION, EXIT_SUCCESS
from measlog.appraisal.rules.oem import OEM_FILE
from measlog.errors import EvidenceError, UnsupportedError
from measlog.flatcar.boot import PredictedBoot, PredictedEvent, oem_script, predict
from measlog.reference.manifest import BANKS
from measlog.registry import ALGORITHMS_BY_NAME, EventType, hash_constructor
from measlog.replay.pcr import start_value

if TYPE_CHECKING:
    from measlog.log import Event, EventLog
    from measlog.reference.manifest import Component, ReferenceManifest

__all__ = ["Explanation", "Hypothesis", "explain_boot", "explain_replay"]

_MOST_EVENTS = 512
"""Longer histories are not searched for an event that is missing or too many: that costs their length squared."""

_LOCALITIES = (0, 3, 4)


@frozen(kw_only=True)
class Hypothesis:
    """A cause, and the value that the register would have.

    ``confirmed`` means that this is the register's value; ``event`` is the index of the log's event it is about.
    """

    code: str
    pcr: int
    sentence: str
    value: bytes = field(repr=False)
    confirmed: bool
    event: int | None = None


@frozen(kw_only=True)
class Explanation:
    """The hypotheses about one register, confirmed ones first, and the value that they are measured against."""

    pcr: int
    value: bytes = field(repr=False)
    hypotheses: tuple[Hypothesis, ...]

    @property
    def confirmed(self) -> tuple[Hypothesis, ...]:
        """The hypotheses that give the register's value."""
        return tuple(h for h in self.hypotheses if h.confirmed)


class _Register:
    """One register under investigation: folds histories and collects hypotheses."""

    def __init__(self, pcr: int, value: bytes, bank: str) -> None:
        self.pcr = pcr
        self.value = value
        self._size = ALGORITHMS_BY_NAME[bank].size
        new = hash_constructor(bank)
        assert new is not None
        self._new = new
        self._found: dict[tuple[str, str], Hypothesis] = {}

    def fold(self, digests: Iterable[bytes], *, locality: int = 0) -> bytes:
        history = tuple(digests)
        state = start_value(self.pcr, self._size, locality=locality, launched=bool(history))
        for digest in history:
            state = self._new(state + digest).digest()
        return state

    def digest(self, data: bytes) -> bytes:
        return self._new(data).digest()

    def suggest(
        self, code: str, sentence: str, digests: Iterable[bytes], *, event: int | None = None, locality: int = 0
    ) -> bool:
        """Write down a hypothesis; returns whether it is confirmed."""
        value = self.fold(digests, locality=locality)
        confirmed = value == self.value
        hypothesis = Hypothesis(
            code=code, pcr=self.pcr, sentence=sentence, value=value, confirmed=confirmed, event=event
        )
        # What is confirmed takes the place of what was said in the same words of another boot.
        if confirmed or (code, sentence) not in self._found:
            self._found[code, sentence] = hypothesis
        return confirmed

    def explanation(self) -> Explanation:
        found = sorted(self._found.values(), key=lambda h: not h.confirmed)
        return Explanation(pcr=self.pcr, value=self.value, hypotheses=tuple(found))


def explain_replay(log: EventLog, values: Mapping[int, bytes], *, bank: str = "sha256") -> tuple[Explanation, ...]:
    """Why a log does not replay to the registers of the machine: an explanation for each register that differs.

    Nothing that is found here makes a log pass; synthetic events are for the person who reads this (A27). Raises
    :class:`~measlog.errors.EvidenceError` where the log does not carry the bank.
    """
    histories = _histories(log, bank)
    stated = _stated_locality(log)
    explanations = []
    for pcr, value in sorted(values.items()):
        register = _Register(pcr, value, bank)
        events = histories.get(pcr, ())
        digests = [e.digests[bank] for e in events]
        if register.fold(digests, locality=stated) == value:
            continue
        if pcr == 0:
            for locality in _LOCALITIES:
                sentence = f"the TPM was started from locality {locality}, which the log does not say"
                register.suggest("startup-locality", sentence, digests, locality=locality)
        if pcr == 5:
            _exits(register, digests)
        if not digests:
            register.suggest("no-events", "the log has no event for the register", (), locality=stated)
        elif len(events) <= _MOST_EVENTS:
            _one_event(register, events, digests, stated)
        explanations.append(register.explanation())
    return tuple(explanations)


def _histories(log: EventLog, bank: str) -> dict[int, tuple[Event, ...]]:
    if bank not in log.algorithms:
        raise EvidenceError(f"the log has no {bank} digests, it has {', '.join(log.algorithms)}", check="bank-missing")
    found: dict[int, list[Event]] = {}
    for event in log:
        if event.pcr is not None and event.type != EventType.EV_NO_ACTION and bank in event.digests:
            found.setdefault(event.pcr, []).append(event)
    return {pcr: tuple(events) for pcr, events in found.items()}


def _stated_locality(log: EventLog) -> int:
    for event in log:
        if event.type == EventType.EV_NO_ACTION and event.raw[:16] == b"StartupLocality\0" and len(event.raw) == 17:
            return event.raw[16]
    return 0


def _exits(register: _Register, digests: Sequence[bytes]) -> None:
    """Q1: events of the hand-over that reached the register after the log was handed over."""
    names = {EXIT_INVOCATION: "Invocation", EXIT_SUCCESS: "Success", EXIT_FAILURE: "Failure"}
    for missing in (
        (EXIT_INVOCATION, EXIT_SUCCESS),
        (EXIT_INVOCATION,),
        (EXIT_SUCCESS,),
        (EXIT_INVOCATION, EXIT_FAILURE),
        (EXIT_INVOCATION, EXIT_FAILURE, EXIT_INVOCATION, EXIT_SUCCESS),
        (EXIT_FAILURE, EXIT_INVOCATION, EXIT_SUCCESS),
    ):
        sentence = f"the log lacks the exit-boot-services events {', '.join(names[text] for text in missing)}"
        register.suggest("exit-events-missing", sentence, [*digests, *map(register.digest, missing)])


def _one_event(register: _Register, events: Sequence[Event], digests: Sequence[bytes], locality: int) -> None:
    """One event too many, twice or in its neighbour's place, in a history from the locality that the log states."""
    for i, event in enumerate(events):
        name = f"event {event.index} ({event.type.name})"
        # The last event has no next one: exchanged with nothing it is the history as it was told, which was compared.
        for code, sentence, changed in (
            ("event-added", f"{name} was never extended", [*digests[:i], *digests[i + 1 :]]),
            ("event-repeated", f"{name} was extended twice", [*digests[: i + 1], *digests[i:]]),
            (
                "event-moved",
                f"{name} and the next one were extended in the other order",
                [*digests[:i], *digests[i + 1 : i + 2], digests[i], *digests[i + 2 :]],
            ),
        ):
            if register.fold(changed, locality=locality) == register.value:
                register.suggest(code, sentence, changed, event=event.index, locality=locality)


def explain_boot(
    log: EventLog,
    manifests: Sequence[ReferenceManifest],
    *,
    bank: str = "sha256",
    secure_boot: bool = True,
    oem_grub_cfg: bytes | None = None,
) -> tuple[Explanation, ...]:
    """Why PCR 4, 8, 9 and 14 of a log are not those of any boot that the manifests allow for.

    The expected boot is the one that shares most with the log. An explanation for each register that differs from it.

    Raises UnsupportedError where no manifest has a boot to compare with, or manifests do not speak of the bank.
    """
    histories = _histories(log, bank)
    if bank not in BANKS:
        raise UnsupportedError(f"no manifest has {bank} digests, which the log is to be compared in")
    boots = [
        (manifest, boot)
        for manifest in manifests
        if manifest.grub is not None
        for boot in predict(manifest, oem_grub_cfg=oem_grub_cfg)
        if boot.slot is not None
    ]
    wanted = [found for found in boots if found[1].secure_boot == secure_boot]
    if not wanted:
        raise UnsupportedError("no manifest describes a boot by GRUB, so there is nothing to compare the log with")
    manifest, closest = max(wanted, key=lambda found: _shared(histories, found[1], bank))
    explanations = []
    for pcr in (4, 8, 9, 14):
        events = _after_boot_manager(histories.get(pcr, ())) if pcr == 4 else histories.get(pcr, ())
        expected = _expected(closest, pcr)
        if pcr in closest.unknown or [e.digests[bank] for e in events] == [e.digests[bank] for e in expected]:
            continue
        register = _Register(pcr, b"", bank)
        register.value = register.fold(e.digests[bank] for e in events)
        for other, boot in boots:
            if boot is not closest:
                _other_boot(register, closest, boot, other, bank)
        if pcr == 8:
            _settings(register, manifest, closest, events, bank)
        _substitutes(register, manifests, events, expected, bank)
        explanations.append(register.explanation())
    return tuple(explanations)


def _expected(boot: PredictedBoot, pcr: int) -> tuple[PredictedEvent, ...]:
    return tuple(e for e in boot.of(pcr) if e.kind not in {"action", "separator"})


def _after_boot_manager(events: Sequence[Event]) -> tuple[Event, ...]:
    return tuple(e for e in events if e.type not in {EventType.EV_EFI_ACTION, EventType.EV_SEPARATOR})


def _shared(histories: Mapping[int, Sequence[Event]], boot: PredictedBoot, bank: str) -> int:
    count = 0
    for pcr in (4, 8, 9):
        there = {e.digests[bank] for e in histories.get(pcr, ())}
        expected = _expected(boot, pcr)
        count += 2 * sum(e.digests.get(bank) in there for e in expected) - len(expected)
    return count


def _other_boot(
    register: _Register, closest: PredictedBoot, boot: PredictedBoot, manifest: ReferenceManifest, bank: str
) -> None:
    """Another state of the same release, or of another one."""
    expected = _expected(boot, register.pcr)
    if register.pcr in boot.unknown or not all(bank in e.digests for e in expected):
        return
    differences = [
        word
        for word, same in (
            ("other-slot", boot.slot == closest.slot),
            ("first-boot", boot.first_boot == closest.first_boot),
            ("secure-boot", boot.secure_boot == closest.secure_boot),
            ("fallback", (boot.slot == boot.chosen) == (closest.slot == closest.chosen)),
        )
        if not same
    ]
    register.suggest(
        differences[0] if len(differences) == 1 else "other-boot",
        f"this is the boot {boot.name} of {manifest.name}",
        [e.digests[bank] for e in expected],
    )


def _settings(
    register: _Register, manifest: ReferenceManifest, boot: PredictedBoot, events: Sequence[Event], bank: str
) -> None:
    """An OEM ``grub.cfg`` that set variables: the settings are in the log, the rest of the boot follows from them."""
    texts = [_command(e) for e in events]
    source = b"source " + OEM_FILE
    if source not in texts:
        return
    place = texts.index(source) + 1
    stop = next((i for i in range(place, len(texts)) if not (texts[i] or b"").startswith(b"set ")), len(texts))
    for end in range(stop, place, -1):
        try:
            script = oem_script([text for text in texts[place:end] if text is not None])
            found = predict(manifest, secure_boot=boot.secure_boot, first_boot=boot.first_boot, oem_grub_cfg=script)
        except UnsupportedError:
            continue
        said = b"; ".join(text for text in texts[place:end] if text is not None).decode("utf-8", "backslashreplace")
        for other in found:
            sentence = f"the grub.cfg of the OEM partition ran: {said}"
            if register.suggest(
                "oem-file", sentence, [e.digests[bank] for e in _expected(other, 8)], event=events[place - 1].index
            ):
                return


def _command(event: Event) -> bytes | None:
    prefix = b"grub_cmd: "
    return event.raw.removeprefix(prefix).rstrip(b"\0") if event.raw.startswith(prefix) else None


def _substitutes(
    register: _Register,
    manifests: Sequence[ReferenceManifest],
    events: Sequence[Event],
    expected: Sequence[PredictedEvent],
    bank: str,
) -> None:
    """Single causes that change what one or more of the expected events hash."""
    wanted = [e.digests[bank] for e in expected]
    observed = [e.digests[bank] for e in events]
    components = {c.authenticode.get(bank): c for m in manifests for c in m.components}
    if register.pcr == 4:
        flat = [components[d].flat[bank] for d in wanted]
        register.suggest("flat-digest", "the firmware measured whole files instead of Authenticode digests", flat)
    if register.pcr == 8:
        register.suggest(
            "nul-terminated",
            "the boot loader hashed its texts with the NUL behind them",
            [register.digest(e.text + b"\0") for e in expected],
        )
    if register.pcr == 9 and events and b"/efi/boot/grub.cfg" in events[0].raw.lower():
        beside = next((i for i, d in enumerate(observed) if d in wanted), len(observed))
        register.suggest(
            "grub-cfg-beside",
            "a grub.cfg lies beside GRUB on the ESP and replaces the embedded configuration (A46)",
            [*observed[:beside], *wanted],
            event=events[0].index,
        )
    strange = [e for e in events if e.digests[bank] not in wanted]
    if register.pcr == 9 and strange:
        # What was read beside the release's files, and nothing else, if the rest is as expected and in order.
        rest = iter(wanted)
        changed = [d for e in events for d in ([e.digests[bank]] if e in strange else islice(rest, 1))]
        names = ", ".join(e.raw.rstrip(b"\0").decode("utf-8", "backslashreplace") for e in strange)
        register.suggest(
            "extra-file",
            f"GRUB read files that the release does not have, by the log's names: {names}",
            [*changed, *rest],
            event=strange[0].index,
        )
    for role, code in (("kernel", "other-kernel"), ("shim", "other-shim"), ("grub", "other-grub")):
        for changed, first in _replaced(role, manifests, events, expected, bank):
            register.suggest(code, f"the {role} is another one than the release's", changed, event=first)
    for event, want in zip(events, expected, strict=False):
        if event.digests[bank] == want.digests[bank] and event.type != want.type:
            sentence = f"event {event.index} holds what is expected there under the type {event.type.name}"
            register.suggest("retyped", sentence, wanted, event=event.index)


def _replaced(
    role: str,
    manifests: Sequence[ReferenceManifest],
    events: Sequence[Event],
    expected: Sequence[PredictedEvent],
    bank: str,
) -> Iterator[tuple[list[bytes], int]]:
    """The expected history with a component's digests replaced by what stands in their place."""
    own: set[bytes | None] = set()
    for component in _of_role(manifests, role):
        own |= {component.authenticode.get(bank), component.flat.get(bank)}
    if len(events) != len(expected):
        return
    changed = []
    first: int | None = None
    for event, want in zip(events, expected, strict=True):
        digest = want.digests[bank]
        if digest in own and event.digests[bank] not in own:
            digest = event.digests[bank]
            first = event.index if first is None else first
        changed.append(digest)
    if first is not None:
        yield changed, first


def _of_role(manifests: Sequence[ReferenceManifest], role: str) -> Iterator[Component]:
    return (c for m in manifests for c in m.components if c.role == role)
