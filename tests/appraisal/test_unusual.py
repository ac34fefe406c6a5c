"""Unusual machines and references: what cannot be compared is neither passed over nor taken for a match."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import attrs
import pytest

import measlog as ml
from fixtures.attacks.forge import ForgedEvent, ForgedLog, quote
from measlog.appraisal import AllOf, AppraisalResult, Policy
from measlog.appraisal.closest import closest_boot
from measlog.appraisal.diff import diff
from measlog.appraisal.explain import explain_boot, explain_replay
from measlog.appraisal.footprint import footprint
from measlog.appraisal.paths import Predictions
from measlog.appraisal.policy_file import load_policy
from measlog.appraisal.rules.banks import ConsistentBanks, HashedData
from measlog.appraisal.rules.boot_path import BootPaths
from measlog.appraisal.rules.boundaries import Separators
from measlog.appraisal.rules.platform import OpenEnded, Platform, Untouched
from measlog.appraisal.rules.secure_boot import SecureBoot
from measlog.errors import ManifestError, PolicyError
from measlog.evidence import VerifiedEvidence
from measlog.flatcar.boot import PredictedEvent, predict
from measlog.formats.pfp import LogEvent, build_log, startup_locality_event
from measlog.log import EventLog
from tests.appraisal.machine import KEY, NONCE, QUOTED, SHA256, appraise, codes, good_log, machine, passed_over, where
from tests.appraisal.test_captures import capture_manifest, lab_manifest

GOOD = "flatcar-lab-good"
SHA384, SHA3_256 = 0x000C, 0x0027
ALGORITHMS = (0x0004, 0x000B, 0x000C)


def only(rule: object, *required: int) -> Policy:
    return Policy(name="one", rule=rule, required=required)  # type: ignore[arg-type]


def log_of(events: Iterable[ForgedEvent], name: str = GOOD) -> EventLog:
    return EventLog.from_bytes(good_log(name).with_events(events).put_together())


def command(text: bytes, pcr: int = 8) -> ForgedEvent:
    """What GRUB measures of a command: the digest is of the text alone."""
    empty = ForgedEvent(pcr, 0xD, dict.fromkeys(ALGORITHMS, b""), b"grub_cmd: " + text + b"\0")
    return empty.rehashed(text)


def with_value(pcr: int, value: bytes) -> VerifiedEvidence:
    """A register that holds a value of which the log says nothing; the machine sends it along."""
    log = good_log()
    values = {**log.registers(SHA256), pcr: value}
    made = quote(KEY, NONCE, [(SHA256, QUOTED)], lambda _: values)
    sent = ml.Quote.from_bytes(made.attest, made.signature)
    evidence = ml.Evidence(log=EventLog.from_bytes(log.put_together()), quote=sent, pcrs={pcr: value})
    return evidence.verify(ak=made.ak, nonce=NONCE)


# Registers without events


def test_a_value_that_no_event_explains_in_a_register_that_is_left_alone() -> None:
    """A22, A26: nothing in the log, and yet not the start value."""
    evidence = with_value(11, b"\x11" * 32)
    result = ml.Verifier([], policy=only(Untouched((11, 12)), 11, 12)).appraise(evidence)
    assert [(f.code, f.pcr, f.message) for f in result.findings] == [
        ("register.unexplained", 11, "PCR 11 holds a value, and the log says nothing about it")
    ]
    assert [c.pcr for c in result.checked] == [12]


def test_a_value_that_no_event_explains_is_named_where_nobody_speaks_of_it() -> None:
    result = ml.Verifier([], policy=only(Separators())).appraise(with_value(11, b"\x11" * 32))
    assert "its value does not follow from the log" in {n.reason for n in result.not_covered if n.pcr == 11}
    assert passed_over(result)[-1] == "kernel-boot PCR 11: its value does not follow from the log"
    left = ml.Verifier([], policy=only(OpenEnded((11,)))).appraise(with_value(11, b"\x11" * 32))
    assert {n.reason for n in left.not_covered if n.pcr == 11} == {"the policy leaves it to the running system"}


@pytest.mark.parametrize("rule", [Untouched((4, 12)), OpenEnded((12,)), Platform((4,)), SecureBoot(), Separators()])
def test_registers_that_are_not_quoted_are_not_spoken_for(rule: object) -> None:
    """A12: what the quote does not cover may have been written into the log by anybody."""
    result = appraise(only(rule), quoted=(0,))
    assert {c.pcr for c in result.checked} <= {0}
    # No rule has spoken of them: their reason is the verifier's.
    assert {n.reason for n in result.not_covered} == {"no rule of the policy speaks of it"}
    assert appraise(only(rule, 12), quoted=(0,)).status == "contraindicated"


# Banks that references do not speak of


def sha3_machine() -> VerifiedEvidence:
    """The good boot on a TPM whose bank has digests that no manifest lists."""

    def digest(e: ForgedEvent) -> bytes:
        for hashed in (e.data, e.data.partition(b": ")[2].removesuffix(b"\0")):
            if hashlib.sha256(hashed).digest() == e.digests[SHA256]:
                return hashlib.sha3_256(hashed).digest()
        return hashlib.sha3_256(e.digests[SHA256]).digest()

    events = [LogEvent(e.pcr, e.type, {"sha3_256": digest(e)}, e.data) for e in good_log().events if e.type != 3]
    values = {pcr: bytes(32) for pcr in range(24)}
    for event in events:
        values[event.register] = hashlib.sha3_256(values[event.register] + event.digests["sha3_256"]).digest()
    made = quote(KEY, NONCE, [(SHA3_256, QUOTED)], lambda _: values)
    log = EventLog.from_bytes(build_log(events, algorithms=["sha3_256"]))
    evidence = ml.Evidence(log=log, quote=ml.Quote.from_bytes(made.attest, made.signature))
    return evidence.verify(ak=made.ak, nonce=NONCE, bank="sha3_256")


def test_a_bank_that_no_manifest_has_is_no_pass() -> None:
    """A10: programs have no digest in it to be compared with; nothing is taken from another bank."""
    manifest = lab_manifest(GOOD)
    result = ml.Verifier([manifest], policy=ml.policy.flatcar()).appraise(sha3_machine())
    assert result.status == "contraindicated"
    assert {f.pcr for f in result.findings if f.severity == "error"} >= {4, 9}
    assert {c.pcr for c in result.checked if c.rule == "boot-path"} <= {8}


def test_a_baseline_is_learned_in_one_bank() -> None:
    with pytest.raises(ManifestError, match="sha256 and sha384 cannot be mixed"):
        ml.Baseline.learn([machine(good_log()), machine(good_log(), bank=SHA384)])


def test_a_register_that_was_not_quoted_is_not_learned() -> None:
    """A42: only what is verified is observed."""
    learned = ml.Baseline.learn([machine(good_log(), quoted=(0, 4, 7))])
    assert set(learned.histories) == {0, 7}


def test_an_event_of_no_register_is_no_ones() -> None:
    """Windows' trust point stands at 0xFFFFFFFF (A21): it is extended nowhere and compared with nothing."""
    point = replace(good_log().events[-1], pcr=0xFFFFFFFF, type=3, data=b"trust point")
    events = (*good_log().events, point)
    result = appraise(only(ConsistentBanks()), lambda _: events)
    assert codes(result) == set()
    assert diff(log_of(events), log_of(good_log().events)).differences == ()


# What machines say is not kept


def test_settings_that_machines_suggest_are_forgotten() -> None:
    """A40: what a machine may choose freely must not fill a verifier's memory."""
    manifest = lab_manifest(GOOD)
    predictions = Predictions()
    own = predictions.of(manifest, secure_boot=True, oem=None)
    scripts = [b"set linux_append='quiet " + b"x" * n + b"'\n" for n in range(70)]
    assert manifest.grub is not None
    grub = attrs.evolve(manifest.grub, config="linux /flatcar/vmlinuz-a\n")
    small = attrs.evolve(manifest, grub=grub, boot_paths=())
    for script in scripts:
        predictions.with_settings(small, secure_boot=True, oem=script)
    assert len(predictions._settled) <= 64
    assert predictions.of(manifest, secure_boot=True, oem=None) is own
    again = predictions.with_settings(small, secure_boot=True, oem=scripts[-1])
    assert again is predictions.with_settings(small, secure_boot=True, oem=scripts[-1])


@pytest.mark.parametrize(
    "manifest",
    [
        attrs.evolve(lab_manifest(GOOD), grub=None, boot_paths=()),
        attrs.evolve(lab_manifest(GOOD), disk=None, boot_paths=()),
    ],
    ids=["grub", "disk"],
)
def test_a_manifest_without_grub_or_disk_predicts_nothing(manifest: ml.ReferenceManifest) -> None:
    assert Predictions().of(manifest, secure_boot=True, oem=None) == ()
    assert Predictions().with_settings(manifest, secure_boot=True, oem=b"\n") == ()


# Shapes of commands and arguments


ARGUMENTS = ["quiet", "flatcar.oem.id=qemu"]
SOURCE = b"source (hd0,gpt6)/grub.cfg"


def predicted(event: PredictedEvent) -> ForgedEvent:
    digests = {a: event.digests[n] for a, n in zip(ALGORITHMS, ("sha1", "sha256", "sha384"), strict=True)}
    return ForgedEvent(event.pcr, 0xD, digests, event.data or b"")


def with_oem(*settings: bytes) -> Sequence[ForgedEvent]:
    """The good boot as it would be with an OEM file of these settings, by the library's own prediction of GRUB.

    The prediction is proven against real boots elsewhere; here the question is what the policy admits of it.
    """
    manifest = lab_manifest(GOOD)
    script = b"".join(b"set '" + s.partition(b" ")[2] + b"'\n" for s in settings) or b"\n"
    boot = next(b for b in predict(manifest, secure_boot=True, slot="a", first_boot=True, oem_grub_cfg=script))
    made = [predicted(e) for e in boot.events if e.pcr in {8, 9}]
    rest = [e for e in good_log().events if e.pcr not in {8, 9}]
    return [*rest, *made]


def judged(*settings: bytes, arguments: Sequence[str] = ARGUMENTS) -> AppraisalResult:
    policy = ml.policy.flatcar(allowed_arguments=arguments)
    verifier = ml.Verifier([lab_manifest(GOOD)], policy=policy)
    return verifier.appraise(machine(good_log().with_events(with_oem(*settings))))


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        pytest.param([], "affirming", id="a file that does nothing"),
        pytest.param([b"set linux_append=quiet"], "affirming", id="an argument that is admitted"),
        pytest.param([b"set oem_id=qemu", b"set linux_append=quiet quiet"], "affirming", id="several"),
        pytest.param([b"set linux_append="], "affirming", id="nothing"),
        pytest.param([b"set linux_append=quiet init=/bin/sh"], "contraindicated", id="A44 one more"),
        pytest.param([b"set linux_append=quiet\tinit=/bin/sh"], "contraindicated", id="A44 behind a tab"),
        pytest.param([b"set linux_append=quiet\ninit=/bin/sh"], "contraindicated", id="A44 in another line"),
        pytest.param([b"set linux_append=quiet\xa0init=/bin/sh"], "contraindicated", id="A44 the kernel's own space"),
        pytest.param([b"set linux_append=quiet\x0binit=/bin/sh"], "contraindicated", id="A44 vertical tab"),
        pytest.param([b"set oem_id=qemu init=/bin/sh"], "contraindicated", id="A44 in the id"),
        pytest.param([b"set oem_id=quiet"], "contraindicated", id="an argument is no id"),
        pytest.param([b"set linux_console=init=/bin/sh"], "contraindicated", id="A44 as a console"),
        pytest.param([b"set linux_cmdline=quiet"], "contraindicated", id="another variable"),
        pytest.param([b"set root=hd1"], "contraindicated", id="another disk"),
        pytest.param([b"set linux_append=quiet"] * 65, "contraindicated", id="more than anybody sets"),
    ],
)
def test_what_an_oem_file_may_set(settings: list[bytes], status: str) -> None:
    """The settings are taken from the log as a hypothesis; only what the policy lists is one."""
    result = judged(*settings)
    assert result.status == status
    assert status != "affirming" or "boot.oem-settings" in codes(result, severity="info")


def test_a_slot_that_did_not_start_is_a_variation_that_the_policy_names(shared: Path) -> None:
    """The other slot was booted in its place, as Flatcar's configuration has it, by the prediction of GRUB."""
    manifest = capture_manifest(shared)
    boot = next(b for b in predict(manifest, secure_boot=True) if b.slot == "a" and b.chosen == "b")
    path = shared / "flatcar" / "captures" / "usr-a-secureboot" / "binary_bios_measurements"
    real = ForgedLog.take_apart(path.read_bytes())
    made = [predicted(e) for e in boot.events if e.pcr in {8, 9}]
    evidence = machine(real.with_events([*(e for e in real.events if e.pcr not in {8, 9}), *made]))
    for allowed, status in ((True, "affirming"), (False, "contraindicated")):
        policy = ml.policy.flatcar(allow_fallback=allowed)
        result = ml.Verifier([manifest], policy=policy, unsafe_unsigned_manifests=True).appraise(evidence)
        assert result.status == status
        assert "boot.fallback" in codes(result, severity="info" if allowed else "error")


def test_an_image_by_another_name_is_called_a_lie() -> None:
    """A2: the device path beside the digest is anybody's; a false one is no reason to pass."""
    told, lie = ("bootx64.efi".encode("utf-16-le"), "bootx65.efi".encode("utf-16-le"))
    names = [told, told.upper()]
    named = where(
        lambda e: e.pcr == 4 and any(name in e.data for name in names),
        lambda e: (replace(e, data=e.data.replace(told, lie).replace(told.upper(), lie)),),
    )
    result = appraise(ml.policy.flatcar(), named, manifests=[lab_manifest(GOOD)])
    assert (result.status, codes(result)) == ("contraindicated", {"event.label"})
    (finding,) = (f for f in result.findings if f.code == "event.label")
    assert (finding.expected, str(finding.observed).lower()) == ("EFI/boot/bootx64.efi", "efi/boot/bootx65.efi")


def test_a_machine_in_service_is_not_provisioned_again() -> None:
    """A file on the ESP makes any boot a first one, which does what unmeasured settings say: a policy can refuse that."""
    manifest = lab_manifest(GOOD)
    first, later = machine(good_log()), machine(good_log("later-boot"))
    for allowed, before, after in ((True, "affirming", "affirming"), (False, "contraindicated", "affirming")):
        verifier = ml.Verifier([manifest], policy=ml.policy.flatcar(allow_first_boot=allowed))
        result = verifier.appraise(first)
        assert result.status == before
        assert codes(result) == (set() if allowed else {"boot.first-boot"})
        assert {"first boot" in (i.boot_path or "") for i in result.identified} == {True}
        assert verifier.appraise(later).status == after


def test_without_a_list_nothing_is_admitted() -> None:
    assert judged(b"set linux_append=quiet", arguments=()).status == "contraindicated"
    assert judged(arguments=()).status == "contraindicated"


def test_a_register_8_that_ends_early_or_goes_on_has_no_settings() -> None:
    policy = ml.policy.flatcar(allowed_arguments=ARGUMENTS)
    for change in (
        lambda events: [e for e in events if e.pcr != 8],
        lambda events: [*events, command(b"set linux_append=quiet")],
        where(lambda e: e.pcr == 8, lambda e: (command(b"set x=y"), e)),
    ):
        result = appraise(policy, change, manifests=[lab_manifest(GOOD)])
        assert result.status == "contraindicated"
        assert {f.pcr for f in result.findings if f.severity == "error"} == {8}


def test_a_setting_that_is_none() -> None:
    """What names no variable, or holds a NUL, was no setting: the file stays refused."""
    good = with_oem(b"set linux_append=quiet")
    arguments = [*ARGUMENTS, "quiet\0x"]
    for text in (b"set linux_append=quiet\0x", b"set _=x", b"set 9x=quiet", b"set linux_append"):
        events = [command(text) if e.data == b"grub_cmd: set linux_append=quiet\0" else e for e in good]
        assert events != good
        policy = ml.policy.flatcar(allowed_arguments=arguments)
        assert ml.Verifier([lab_manifest(GOOD)], policy=policy).appraise(
            machine(good_log().with_events(events))
        ).status == "contraindicated", text  # fmt: skip


# Explanations


def test_a_locality_that_the_log_states_is_reckoned_with() -> None:
    """PFP 10.4.5.3: PCR 0 starts at the locality; a log that states it replays, and nothing is to be explained."""
    digest = hashlib.sha256(b"firmware").digest()
    stated = startup_locality_event(3, ["sha256"])
    log = EventLog.from_bytes(build_log([stated, LogEvent(0, 8, {"sha256": digest}, b"x")], algorithms=["sha256"]))
    start = bytes(31) + b"\3"
    assert explain_replay(log, {0: hashlib.sha256(start + digest).digest()}) == ()
    (found,) = explain_replay(log, {0: hashlib.sha256(bytes(31) + b"\4" + digest).digest()})
    assert [h.code for h in found.confirmed] == ["startup-locality"]


def test_a_long_history_is_not_searched() -> None:
    """Trying each event costs the square of their number."""
    digest = hashlib.sha256(b"x").digest()
    events = [LogEvent(8, 0xD, {"sha256": digest}, b"x")] * 600
    log = EventLog.from_bytes(build_log(events, algorithms=["sha256"]))
    (found,) = explain_replay(log, {8: bytes(32)})
    assert found.hypotheses == ()


def test_an_event_by_another_type_is_named() -> None:
    """A1: the digest is the expected one, the type is not."""
    changed = where(lambda e: e.pcr == 9, lambda e: (replace(e, type=0x80000008),))
    events = list(changed(good_log().events))
    digest = hashlib.sha256(b"more").digest()
    events.append(replace(events[-1], pcr=9, type=0xD, digests=dict.fromkeys(ALGORITHMS, digest), data=b"x\0"))
    events = [replace(e, digests={**e.digests, 0x4: digest[:20], 0xC: digest + digest[:16]}) if e.data == b"x\0" else e
              for e in events]  # fmt: skip
    found = {h.code for e in explain_boot(log_of(events), [lab_manifest(GOOD)]) for h in e.hypotheses if e.pcr == 9}
    assert "retyped" in found


def without_lists() -> ml.ReferenceManifest:
    """A release of whose shim nobody knows what it mirrors into PCR 14."""
    manifest = lab_manifest(GOOD)
    blank = tuple(
        attrs.evolve(c, mok_list=None, mok_list_x=None) if c.role == "shim" else c for c in manifest.components
    )
    return attrs.evolve(manifest, name="blank", components=blank, boot_paths=())


def test_a_register_that_a_release_does_not_know_is_no_pass_and_no_explanation() -> None:
    blank = without_lists()
    result = appraise(ml.policy.flatcar(), manifests=[blank])
    assert result.status == "warning"
    assert [(f.code, f.pcr) for f in result.findings if f.severity == "warning"] == [("register.not-covered", 14)]
    log = log_of(where(lambda e: e.pcr == 14, lambda e: (e.rehashed(b"?"),))(good_log().events))
    assert explain_boot(log, [blank]) == ()
    (found,) = explain_boot(log, [lab_manifest(GOOD), blank])
    assert found.pcr == 14
    assert not [h for h in found.hypotheses if "blank" in h.sentence]
    boot, *_ = predict(blank, secure_boot=True, slot="a", first_boot=True)
    compared = diff(log, boot)
    assert 14 in compared.not_compared
    assert 14 not in {row.pcr for row in compared.rows}
    assert closest_boot(log, [boot]) is boot


def test_events_of_a_register_that_a_boot_does_not_know_are_not_compared() -> None:
    boot, *_ = predict(lab_manifest(GOOD), secure_boot=True, slot="a", first_boot=True)
    unsure = attrs.evolve(boot, unknown={**boot.unknown, 9: "a file that nobody knows"})
    assert unsure.of(9)
    compared = diff(log_of(good_log().events), unsure)
    assert compared.not_compared[9] == "a file that nobody knows"
    assert {row.pcr for row in compared.rows} == {row.pcr for row in diff(log_of(good_log().events), boot).rows} - {9}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        pytest.param([b"set linux_append=x"], True, id="a setting"),
        pytest.param([b"set linux_append"], False, id="a set that sets nothing"),
        pytest.param([b"insmod evil"], False, id="another command"),
        pytest.param([], False, id="nothing"),
    ],
)
def test_settings_explain_only_what_they_do(settings: list[bytes], told: bool) -> None:
    """An OEM file is blamed where the boot that follows from its settings is the one that was measured."""
    events = list(with_oem(b"set linux_append=x"))
    place = next(i for i, e in enumerate(events) if e.data == b"grub_cmd: set linux_append=x\0")
    events[place : place + 1] = [command(text) for text in settings]
    found = {h.code for e in explain_boot(log_of(events), [lab_manifest(GOOD)]) for h in e.confirmed if e.pcr == 8}
    assert ("oem-file" in found) == told


# What a verdict rests on


class Strange(Separators):
    """A rule of one's own, which may look at anything."""


def test_verdicts_rest_on_all_that_rules_look_at() -> None:
    """Events that differ in nothing a rule looks at are alike; where a rule is not known, nothing is said."""
    verifier = ml.Verifier([lab_manifest(GOOD)], policy=ml.policy.flatcar())
    found = footprint(verifier, "sha256")
    assert found is not None

    def looked_at(event: ml.Event) -> object:
        if event.pcr is None or event.pcr in found.whole:
            return dict(event.digests), event.raw
        return found.rest(event)

    log = log_of(good_log().events)
    other = log_of(where(lambda e: e.pcr == 0 and e.type != 3, lambda e: (e.rehashed(b"?"),))(good_log().events))
    # PCR 0 is nobody's without a baseline, as long as digest and data fit as they did.
    changed = [i for i, (a, b) in enumerate(zip(log, other, strict=True)) if a != b]
    assert [log[i].pcr for i in changed] == [0]
    assert all(
        looked_at(a) == looked_at(b) for i, (a, b) in enumerate(zip(log, other, strict=True)) if i not in changed
    )
    covered = log_of(where(lambda e: e.pcr == 9, lambda e: (e.rehashed(b"?"),))(good_log().events))
    assert any(looked_at(a) != looked_at(b) for a, b in zip(log, covered, strict=True))
    assert footprint(verifier, "no-such-bank") is None
    unknown = ml.Verifier([], policy=only(Strange()))
    assert footprint(unknown, "sha256") is None
    learned = ml.Baseline.learn([machine(good_log())])
    both = [learned, ml.Baseline(bank="sha384", samples=1, histories=learned.histories)]
    with_baselines = footprint(ml.Verifier([], policy=ml.policy.flatcar(), baselines=both), "sha256")
    assert with_baselines is not None
    assert with_baselines.telling[0] == {e.digests[SHA256] for e in good_log().events if e.pcr == 0} | found.telling[0]


# Policies


@pytest.mark.parametrize("required", [{24}, {-1}, {"4"}, {4.0}])
def test_registers_that_do_not_exist_are_not_required(required: set[object]) -> None:
    with pytest.raises(PolicyError, match="PCR 0 to 23"):
        Policy(name="x", rule=Separators(), required=required)  # type: ignore[arg-type]


RULE = 'format = "measlog.policy/1"\nname = "x"\nrequired = [7]\n[[rule]]\nkind = '


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"secure-boot"\nminimum_dbx = ["zz"]', "line 6: minimum_dbx must be a list of SHA-256 digests"),
        ('"event-hashed"\nseverity = "mild"', "line 6: severity must be error, warning or info"),
        ('"any-of"\nenabled = true\n[[rule.rules]]\nkind = "separators"', "line 6: any-of has no parameter enabled"),
        ('"open-ended"\npcrs = [4]', "line 5: PCR 4 cannot be open-ended"),
        ("3", "line 5: there is no rule 3"),
    ],
)
def test_a_rule_that_is_not_understood(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy((RULE + text).encode())
    assert message in str(caught.value)


def test_rules_are_not_nested_without_end() -> None:
    tables = "".join(f'[[rule{".rules" * depth}]]\nkind = "all-of"\n' for depth in range(40))
    with pytest.raises(PolicyError, match="nested more than"):
        load_policy(f'format = "measlog.policy/1"\nname = "x"\nrequired = [7]\n{tables}'.encode())


def test_parameters_of_rules_are_those_of_the_file() -> None:
    digest = hashlib.sha256(b"revoked").hexdigest()
    text = RULE + f'"secure-boot"\nminimum_dbx = ["{digest}"]\nallow_mok = true\n[[rule]]\nkind = "boot-path"\n'
    rule = load_policy((text + 'oem_grub_cfg = ["set x=1"]\n').encode()).rule
    demanded = SecureBoot(minimum_dbx=frozenset({bytes.fromhex(digest)}), allow_mok=True)
    assert rule == AllOf((demanded, BootPaths(oem_grub_cfg=(b"set x=1",))))
    mild = load_policy((RULE + '"event-hashed"\nseverity = "warning"\n').encode()).rule
    assert mild == AllOf((HashedData(severity="warning"),))


# What is shown


def test_results_and_differences_are_shown_with_hostile_text_escaped() -> None:
    """A35: the log's texts are the machine's."""
    hostile = where(lambda e: e.pcr == 8, lambda _: (command(b"<script>\x1b[2J"),))
    result = appraise(ml.policy.flatcar(), hostile, manifests=[lab_manifest(GOOD)])
    found = diff(log_of(good_log().events), log_of(hostile(good_log().events)))
    assert repr(result).startswith("<AppraisalResult contraindicated: ")
    assert repr(result).endswith(f"first: {result.findings[0].code}>")
    assert repr(appraise(only(Separators()))) == "<AppraisalResult affirming: 0 findings>"
    for shown in (result, found):
        assert "PCR 8" in str(shown)
        assert "\n" not in repr(shown)
        assert "\x1b" not in str(shown)
        assert "<script>" not in shown._repr_html_()
        assert "script" in shown._repr_html_()
