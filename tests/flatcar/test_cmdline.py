"""Kernel command lines: taken apart as Linux does (lib/cmdline.c, next_arg), checked argument by argument."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError, LimitExceededError, PolicyError
from measlog.flatcar.cmdline import Argument, ArgumentRule, CommandLine, check, grub_words, parse
from measlog.flatcar.grub.loader import kernel_command_line


def pairs(line: CommandLine) -> list[tuple[bytes, bytes | None]]:
    return [(argument.name, argument.value) for argument in line.arguments]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a", [(b"a", None)]),
        (b"a=b", [(b"a", b"b")]),
        (b"a=", [(b"a", b"")]),
        (b"a=b=c", [(b"a", b"b=c")]),
        (b"  a \t b\n", [(b"a", None), (b"b", None)]),
        (b'a="b c" d', [(b"a", b"b c"), (b"d", None)]),
        (b'"a=b c" d', [(b"a", b"b c"), (b"d", None)]),
        (b'a="b', [(b"a", b"b")]),
        (b'a=b" "c', [(b"a", b'b" "c')]),
        (b'"a b"', [(b"a b", None)]),
        # A backslash protects nothing: the quote after it counts.
        (b'a=\\"b c\\"', [(b"a", b'\\"b c\\"')]),
        (b"=a", [(b"=a", None)]),
        (b"a\xa0b", [(b"a", None), (b"b", None)]),
        (b"", []),
    ],
)  # fmt: skip
def test_arguments_are_the_kernel_s(text: bytes, expected: list[tuple[bytes, bytes | None]]) -> None:
    assert pairs(parse(text, measured=False)) == expected


def test_the_image_stands_first() -> None:
    assert parse(b"/flatcar/vmlinuz-a root=x").image == b"/flatcar/vmlinuz-a"
    assert parse(b"BOOT_IMAGE=/flatcar/vmlinuz-a root=x", measured=False).image == b"/flatcar/vmlinuz-a"
    assert parse(b"root=x", measured=False).image is None
    with pytest.raises(FormatError, match="empty"):
        parse(b"")


def test_what_follows_two_dashes_is_init_s() -> None:
    line = parse(b"/k a=1 -- b=2 c")
    assert [argument.raw for argument in line.arguments] == [b"a=1"]
    assert [argument.raw for argument in line.init_arguments] == [b"b=2", b"c"]


def test_names_are_compared_as_the_kernel_does() -> None:
    line = parse(b"/k mem-limit=1 root=a mem_limit=2 root=b")
    assert [argument.value for argument in line.all("mem_limit")] == [b"1", b"2"]
    last = line.last("root")
    assert last is not None
    assert last.value == b"b"
    assert line.duplicates == {b"mem_limit", b"root"}
    assert line.last("none") is None


def test_bad_text_is_an_error() -> None:
    with pytest.raises(FormatError, match="byte 3"):
        parse(b"/k \0")
    with pytest.raises(LimitExceededError):
        parse(b"a" * 70_000)


EXPECTED = parse(b"/k root=LABEL=ROOT console=ttyS0 console=tty0 quiet")


@pytest.mark.parametrize(
    ("text", "rules", "codes"),
    [
        (b"/k root=LABEL=ROOT console=ttyS0 console=tty0 quiet", [], []),
        (b"/other root=LABEL=ROOT console=ttyS0 console=tty0 quiet", [], ["cmdline.image"]),
        (b"/k root=LABEL=ROOT console=tty0 console=ttyS0 quiet", [], ["cmdline.order"]),
        (b"/k root=LABEL=ROOT console=ttyS0 quiet", [], ["cmdline.order", "cmdline.missing"]),
        (b"/k root=LABEL=ROOT console=ttyS0 console=tty0 quiet init=/bin/sh", [], ["cmdline.unexpected"]),
        (
            b"/k root=LABEL=ROOT console=ttyS0 console=tty0 quiet flatcar.autologin",
            [ArgumentRule(name="flatcar.autologin")],
            [],
        ),
        (
            b"/k root=LABEL=ROOT console=ttyS0 console=tty0 quiet flatcar.autologin=ttyS0",
            [ArgumentRule(name="flatcar.autologin")],
            ["cmdline.unexpected"],
        ),
        (
            b"/k root=LABEL=ROOT console=ttyS0 console=tty0 quiet x=1 x=1",
            [ArgumentRule(name="x", values=["1"])],
            ["cmdline.duplicate"],
        ),
        (
            b"/k root=LABEL=ROOT console=ttyS0 console=tty0 quiet x=1 x=2",
            [ArgumentRule(name="x", values=["1", "2"], repeat=True)],
            [],
        ),
        (
            b"/k root=LABEL=ROOT console=ttyS0 console=tty0 quiet root=LABEL=EVIL",
            [ArgumentRule(name="root", pattern="LABEL=.*")],
            ["cmdline.override"],
        ),
        (
            b"/k root=LABEL=ROOT console=ttyS0 console=tty0 quiet root=LABEL=X",
            [ArgumentRule(name="root", pattern="LABEL=X", override=True)],
            [],
        ),
        # The whole value must match, newlines included (A44).
        (
            b"/k root=LABEL=ROOT console=ttyS0 console=tty0 quiet id=ab1",
            [ArgumentRule(name="id", pattern="[a-z]+")],
            ["cmdline.unexpected"],
        ),
        (
            b'/k root=LABEL=ROOT console=ttyS0 console=tty0 quiet "id=a\nb"',
            [ArgumentRule(name="id", pattern="a.?$")],
            ["cmdline.unexpected"],
        ),
        (b"/k root=LABEL=ROOT console=ttyS0 console=tty0 quiet -- sh", [], ["cmdline.init"]),
        (b"/k", [], ["cmdline.missing"] * 4),
    ],
)  # fmt: skip
def test_each_argument_is_accounted_for(text: bytes, rules: list[ArgumentRule], codes: list[str]) -> None:
    found = check(parse(text), EXPECTED, rules)
    assert [violation.code for violation in found] == codes
    assert all(violation.message for violation in found)


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(PolicyError, match="regular expression"):
        ArgumentRule(name="x", pattern="(")


def test_values_without_a_value_are_not_covered_by_a_pattern() -> None:
    rule = ArgumentRule(name="x", pattern=".*")
    assert not rule.allows(Argument(b"x", b"x"))
    assert rule.allows(Argument(b"x=", b"x", b""))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"/k a b", (b"/k", b"a", b"b")),
        (b'/k "a b" c', (b"/k", b"a b", b"c")),
        (b"/k \\'a\\' \\\\ \\\"", (b"/k", b"'a'", b"\\", b'"')),
        (b"/k  a", (b"/k", b"", b"a")),
        (b"/k a\\x20b", (b"/k", b"a\\x20b")),
    ],
)
def test_grub_s_escaping_is_undone(text: bytes, words: tuple[bytes, ...]) -> None:
    assert grub_words(text) == words


@pytest.mark.parametrize("text", [b'a"b', b'"a"b', b"a\\", b'"a b'])
def test_what_grub_does_not_write_is_an_error(text: bytes) -> None:
    with pytest.raises(FormatError):
        grub_words(text)


WORDS = st.lists(st.binary(max_size=20).filter(lambda word: 0 not in word), min_size=1, max_size=6)


@given(WORDS, st.booleans())
def test_escaping_and_its_undoing_are_inverse(words: list[bytes], keep_hex: bool) -> None:
    assert grub_words(kernel_command_line(words, 1 << 16, keep_hex=keep_hex), keep_hex=keep_hex) == tuple(words)


@given(st.binary(max_size=60).filter(lambda text: 0 not in text))
def test_the_arguments_cover_the_text(text: bytes) -> None:
    """Any text is read; nothing but white space lies between the arguments."""
    line = parse(text, measured=False)
    rest = text
    raws = [a.raw for a in (*line.arguments, *line.init_arguments)]
    for raw in raws:
        assert raw in rest
        rest = rest.partition(raw)[2]


def test_a_real_command_line(shared: Path) -> None:
    """/proc/cmdline of a capture: the kernel's built-in arguments, then what GRUB measured, then the root hash."""
    text = (shared / "flatcar" / "captures" / "usr-a-first-boot-secureboot" / "cmdline.txt").read_bytes()
    line = parse(text, measured=False)
    boot_image = line.last("BOOT_IMAGE")
    assert boot_image is not None
    assert boot_image.value == b"/flatcar/vmlinuz-a"
    usrhash = line.last("verity.usrhash")
    assert usrhash is not None
    assert usrhash.value is not None
    assert len(bytes.fromhex(usrhash.value.decode())) == 32
