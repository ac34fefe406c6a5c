"""What changes between two releases: each difference once, none where there is none."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from measlog.reference.changes import Change, compare
from measlog.reference.manifest import BootPath, Certificate, ExpectedEvent, Grub, ReferenceManifest, SbatEntry, Signer
from tests.reference.test_manifest import digests, make_manifest


def with_component(index: int, **changes: Any) -> ReferenceManifest:
    made = make_manifest()
    components = list(made.components)
    components[index] = attrs.evolve(components[index], **changes)
    return attrs.evolve(made, components=tuple(components))


def found(old: ReferenceManifest, new: ReferenceManifest) -> set[tuple[str, str, tuple[int, ...]]]:
    return {(one.kind, one.subject, one.registers) for one in compare(old, new)}


def certificate(name: str) -> Certificate:
    return Certificate(subject=f"CN={name}", issuer=f"CN={name}", sha256=name.encode().ljust(32, b"."))


def test_nothing_changes_nothing() -> None:
    assert compare(make_manifest(), make_manifest()) == ()
    # What a manifest is called, and when it holds, is measured nowhere.
    assert compare(make_manifest(), make_manifest(name="other", version=1, expires=None)) == ()


SHIM, KERNEL = 0, 1
CASES: list[tuple[int, dict[str, Any], set[tuple[str, str, tuple[int, ...]]]]] = [
    (KERNEL, {"flat": digests(9), "authenticode": digests(8)}, {("program", "kernel of slot a", (4, 9))}),
    (KERNEL, {"flat": digests(9)}, {("program", "kernel of slot a", (9,))}),
    (SHIM, {"flat": digests(9), "authenticode": digests(8)}, {("program", "shim", (4,))}),
    (
        SHIM,
        {"flat": digests(9), "authenticode": digests(8), "version": "16.2"},
        {("program", "shim", (4,)), ("version", "shim", ())},
    ),
    (
        SHIM,
        {"flat": digests(9), "signers": (Signer(chain=(certificate("MS"),), algorithm="sha256", verified="yes"),)},
        {("program", "shim", ()), ("signer", "shim", (7,))},
    ),
    (
        SHIM,
        {"flat": digests(9), "authenticode": digests(8), "vendor_certificates": (certificate("Flatcar"),)},
        {("program", "shim", (4,)), ("certificate", "shim", (7, 14))},
    ),
    (
        SHIM,
        {"flat": digests(9), "authenticode": digests(8), "sbat": (SbatEntry(component="shim", generation=5),)},
        {("program", "shim", (4,)), ("sbat", "shim", ())},
    ),
    (
        SHIM,
        {"flat": digests(9), "authenticode": digests(8), "sbat_levels": {"automatic": "sbat,1,2\ngrub,5\n"}},
        {("program", "shim", (4,)), ("sbat", "shim", (7,))},
    ),
]


@pytest.mark.parametrize(("index", "changes", "expected"), CASES)
def test_a_changed_program(
    index: int, changes: dict[str, Any], expected: set[tuple[str, str, tuple[int, ...]]]
) -> None:
    assert found(make_manifest(), with_component(index, **changes)) == expected
    assert found(with_component(index, **changes), make_manifest()) == expected


def test_a_program_that_comes_or_goes() -> None:
    made = make_manifest()
    without = attrs.evolve(made, components=made.components[:1])
    assert [one.message for one in compare(made, without)] == ["kernel of slot a is gone"]
    assert [one.message for one in compare(without, made)] == ["kernel of slot a is new"]


def test_a_unified_image_is_measured_into_its_own_registers() -> None:
    # UAPI.5: the stub measures the sections into PCR 11; the firmware the program into PCR 4.
    made = make_manifest()
    unified = attrs.evolve(made.components[KERNEL], role="uki", slot=None, path="EFI/Linux/a.efi")
    old, new = (attrs.evolve(made, components=(one,)) for one in (unified, attrs.evolve(unified, flat=digests(9))))
    assert [one.message for one in compare(made, old) if one.registers == (4, 11)] == ["unified kernel image is new"]
    assert {one.registers for one in compare(old, new)} == {(11,)}


def test_a_boot_that_comes_or_goes() -> None:
    made = make_manifest()
    without = attrs.evolve(made, boot_paths=())
    assert [one.message for one in compare(made, without)] == ["the boot 'first boot' is gone"]
    assert [one.message for one in compare(without, made)] == ["the boot 'first boot' is new"]


def test_a_changed_configuration_is_shown_line_by_line() -> None:
    new = make_manifest(
        grub=Grub(config="set\nset debug=1\n", load_config="x", prefix="(memdisk)", modules=("normal",))
    )
    (one,) = compare(make_manifest(), new)
    assert (one.kind, one.registers) == ("configuration", (4, 8))
    assert "+set debug=1" in (one.new or "").splitlines()


def test_a_changed_usr() -> None:
    made = make_manifest()
    new = attrs.evolve(made, usr=(attrs.evolve(made.usr[0], root=b"\1" * 32, status="verified"),))
    assert [one.message for one in compare(made, new)] == [
        f"the root hash of USR-A was {'00' * 32}, is {'01' * 32}",
        "what is known of USR-A was unchecked, is verified",
    ]


def path(text: str, byte: int) -> tuple[BootPath, ...]:
    event = ExpectedEvent(pcr=8, type=13, text=text, digests={"sha256": bytes([byte]) * 32})
    other = ExpectedEvent(pcr=4, type=13, text="same", digests={"sha256": bytes(32)})
    return (BootPath(name="later boot", events=(event, other)),)


def test_a_changed_command_line_is_told_in_words_and_registers() -> None:
    old = make_manifest(boot_paths=path("/flatcar/vmlinuz-a quiet", 1))
    new = make_manifest(boot_paths=path("/flatcar/vmlinuz-a", 2))
    assert compare(old, new) == (
        Change(
            kind="boot-path", subject="later boot", message="the boot 'later boot' differs in PCR 8", registers=(8,)
        ),
        Change(
            kind="command-line",
            subject="later boot",
            message="the command line of 'later boot' was /flatcar/vmlinuz-a quiet, is /flatcar/vmlinuz-a",
            registers=(8,),
            old="/flatcar/vmlinuz-a quiet",
            new="/flatcar/vmlinuz-a",
        ),
    )


def test_a_changed_built_in_command_line_is_told() -> None:
    bare = {"flat": digests(9), "authenticode": digests(8)}
    none = with_component(KERNEL, **bare, command_line="")
    some = with_component(
        KERNEL, flat=digests(7), authenticode=digests(6), command_line="a b", command_line_use="before"
    )
    unread = with_component(KERNEL, flat=digests(5), authenticode=digests(4), command_line_unread="why")
    told = [one for one in compare(none, some) if one.kind == "command-line"]
    assert told == [
        Change(
            kind="command-line",
            subject="kernel of slot a",
            message="the built-in command line of kernel of slot a was none, is a b (before what the boot loader gives)",
            registers=(4, 9),
            old=None,
            new="a b (before what the boot loader gives)",
        )
    ]
    (one,) = [one for one in compare(some, unread) if one.kind == "command-line"]
    assert (one.old, one.new) == ("a b (before what the boot loader gives)", "not known")
    # A manifest that says nothing, as those of before, is no change from one that says why it is not known.
    assert not [one for one in compare(make_manifest(), unread) if one.kind == "command-line"]


def test_a_lost_register_is_told() -> None:
    (one,) = compare(make_manifest(), make_manifest(covers={10: "ten"}))
    assert (one.kind, one.registers) == ("coverage", (4,))
