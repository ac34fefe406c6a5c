"""Kernel command lines: taken apart as Linux does (lib/cmdline.c, next_arg), checked argument by argument."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import FormatError, LimitExceededError, PolicyError
from measlog.flatcar.cmdline import Argument, ArgumentModel, ArgumentRule, CommandLine, check, grub_words, parse
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


# Models


BASE = b"/k root=LABEL=ROOT console=ttyS0 console=tty0 quiet"


@pytest.mark.parametrize(
    ("text", "rules", "codes"),
    [
        # Nothing is the kernel's any more behind two dashes, be they the last word.
        (BASE + b" --", [], ["cmdline.init"]),
        (BASE + b' "--"', [], ["cmdline.init"]),
        (BASE + b" -- a", [ArgumentRule(name="a")], ["cmdline.init"]),
        # Quotes are not read alike by the kernel, systemd and dracut.
        (BASE + b' x="a b"', [ArgumentRule(name="x", pattern=".*")], ["cmdline.quoting"]),
        (BASE + b' x="', [ArgumentRule(name="x", pattern=".*")], ["cmdline.quoting"]),
        (BASE + b" x='a'", [ArgumentRule(name="x", pattern=".*")], ["cmdline.quoting"]),
        (BASE + b' "x"', [ArgumentRule(name="x")], ["cmdline.quoting"]),
        # What is overridden may be missing; what is not, may not, wherever it stood.
        (b"/k root=LABEL=ROOT console=tty1 quiet", [ArgumentRule(name="console", values=["tty1"], override=True)], []),
        (b"/k root=LABEL=ROOT console=tty0 quiet", [ArgumentRule(name="console", pattern="tty0", override=True)], []),
        (b"/k console=tty1 quiet", [ArgumentRule(name="console", values=["tty1"], override=True)], ["cmdline.order", "cmdline.missing"]),
        (b"/k root=LABEL=ROOT quiet", [ArgumentRule(name="console", values=["tty1"], override=True)], ["cmdline.order", "cmdline.missing", "cmdline.missing"]),
        (BASE + b" console=tty1", [ArgumentRule(name="console", values=["tty1"], override=True)], []),
        (BASE + b" console=tty1 console=tty1", [ArgumentRule(name="console", values=["tty1"], override=True)], ["cmdline.duplicate"]),
        # A name by its other spelling is the same name.
        (BASE + b" a-b=1 a_b=1", [ArgumentRule(name="a_b", values=["1"])], ["cmdline.duplicate"]),
    ],
)  # fmt: skip
def test_a_model_accounts_for_each_argument(text: bytes, rules: list[ArgumentRule], codes: list[str]) -> None:
    assert [violation.code for violation in check(parse(text), EXPECTED, rules)] == codes
    if rules:
        assert [violation.code for violation in ArgumentModel(rules=rules).violations(text, BASE)] == codes


def test_an_order_of_additional_arguments() -> None:
    rules = [ArgumentRule(name="a", repeat=True), ArgumentRule(name="b")]
    for text, codes in ((b" a a b", []), (b" b", []), (b" b a", ["cmdline.order"]), (b" a b a", ["cmdline.order"])):
        assert [v.code for v in ArgumentModel(rules=rules, ordered=True).violations(BASE + text, BASE)] == codes
        assert ArgumentModel(rules=rules).violations(BASE + text, BASE) == ()


def test_a_text_that_no_kernel_is_given() -> None:
    model = ArgumentModel(rules=[ArgumentRule(name="x", pattern=".*")])
    for text, code in (
        (BASE + b" x=\0", "cmdline.unreadable"),
        (b"", "cmdline.unreadable"),
        (BASE + b" x=" + b"a" * 70_000, "cmdline.unreadable"),
        (BASE + b" x=" + b"a" * 1800, "cmdline.size"),
    ):
        assert [violation.code for violation in model.violations(text, BASE)] == [code]
    assert model.violations(BASE + b" x=" + b"a" * 1700, BASE) == ()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"name": ""}, "name"),
        ({"name": "--"}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a=b"}, "name"),
        ({"name": 'a"'}, "name"),
        ({"name": "a", "values": []}, "no value"),
        ({"name": "a", "values": "b"}, "a list"),
        ({"name": "a", "values": ["b c"]}, "not the value"),
        ({"name": "a", "values": ["b\0"]}, "not the value"),
    ],
)
def test_a_rule_that_no_argument_could_keep_is_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        ArgumentRule(**parameters)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        (b"x=1", True),
        (b"y", True),
        (b"", False),
        (b"z", False),
        (b"y=1", False),
        (b"x=1 y", False),
        (b"x=\0", False),
        (b'x="1"', False),
        (b"--", False),
        (b"BOOT_IMAGE=1", False),
        (b"x=" + b"1" * 100_000, False),
    ],
)
def test_one_argument_by_itself(text: bytes, allowed: bool) -> None:
    assert ArgumentModel(rules=[ArgumentRule(name="x", pattern=".*"), ArgumentRule(name="y")]).allows(text) is allowed


def test_a_single_argument_as_a_rule() -> None:
    rule = ArgumentRule.exactly("a=b=c")
    assert (rule.name, rule.values, rule.repeat, rule.override) == (b"a", (b"b=c",), True, True)
    assert ArgumentRule.exactly(b"a").values is None
    assert ArgumentRule.exactly("a=").allows(Argument(b"a=", b"a", b""))


def test_rules_in_words() -> None:
    rules = [
        ArgumentRule(name="a", values=["1", "2"], pattern="[3-9]", repeat=True),
        ArgumentRule(name="b", override=True),
    ]
    sentence = "a=1 or 2 or what matches [3-9], more than once; b, in place of the image's"
    assert ArgumentModel(rules=rules).sentence == sentence
    assert ArgumentModel(rules=rules, ordered=True).sentence == sentence + " (in this order)"


ALLOWED = [ArgumentRule(name="x", pattern="[0-9]+", repeat=True), ArgumentRule(name="y")]


@given(st.lists(st.one_of(st.sampled_from([b"x=1", b"y", b"x", b"--", b'"']), st.binary(max_size=8)), max_size=6))
def test_what_a_model_admits_is_what_white_space_separates(words: list[bytes]) -> None:
    """By a reading that knows no quotes, as dracut's: no word is admitted that no rule names."""
    text = b" ".join([BASE, *words])
    violations = ArgumentModel(rules=ALLOWED).violations(text, BASE)
    more = text.split()[len(BASE.split()) :]
    if not violations:
        assert all(word == b"y" or (word[:2] == b"x=" and word[2:].isdigit()) for word in more)
        assert more.count(b"y") <= 1


def test_a_model_has_rules() -> None:
    given: list[list[Any]] = [[], ["x"], [ArgumentRule(name="x"), b"y"]]
    for rules in given:
        with pytest.raises(PolicyError, match="a list of ArgumentRule with at least one of them"):
            ArgumentModel(rules=rules)


def test_what_the_image_gives_to_init_has_to_be_there() -> None:
    expected = parse(BASE + b" -- single x")
    assert check(expected, expected, []) == ()
    for text, missing in ((BASE, [b"single", b"x"]), (BASE + b" --", [b"single", b"x"])):
        found = [v for v in check(parse(text), expected, []) if v.code == "cmdline.missing"]
        assert [violation.argument.raw for violation in found] == missing
        assert "b'single' after -- is missing" in found[0].message
    # Others in their place are named themselves.
    assert [(v.code, v.argument.raw) for v in check(parse(BASE + b" -- y"), expected, [])] == [("cmdline.init", b"y")]
