"""Configurations that want too much: each ends in a clear error, soon, and nothing but the library's errors comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measlog.errors import LimitExceededError, MeaslogError
from measlog.flatcar.grub import Disk, GrubFile, GrubLimits, Machine, Partition, run


def machine(**files: bytes) -> Machine:
    held = {name.replace("_cfg", ".cfg"): GrubFile(content=text) for name, text in files.items()}
    return Machine(disks=[Disk(partitions=[Partition(number=1, filesystem="fat", files=held)])])


LOOPS = {
    "endless while": b"while [ a ]; do set x=y; done\n",
    "endless until": b"until [ '' ]; do set x=y; done\n",
    "unknown command as a condition": b"while true; do echo a; done\n",
    "doubling": b"set a=xxxxxxxx\n" + b'set a="$a$a$a$a"\n' * 60,
    "doubling words": b"set a='x x x x'\n" + b'set a="$a $a $a"\n' * 40 + b"echo $a\n",
    "many variables": b"set v=1\nwhile [ a ]; do set v=1$v; set a$v=1; done\n",
    "many entries": b"while [ a ]; do menuentry x { echo a; }; done\n",
    "nested blocks": b"menuentry x { " * 5000,
    "nested conditions": b"if true; then " * 5000,
    "nested functions": b"if true\nthen\n" * 5000,
    "elif without end": b"if [ ]; then a; " + b"elif [ ]; then a; " * 5000 + b"fi\n",
    "a long word": b"echo " + b"a" * 8192 + b"\n",
    "a long comment": b"echo a #" + b"x" * 9000 + b"\n",
    "an open quote over many lines": b"echo '" + b"\n" * 200_000 + b"'\n",
    "open quotes again and again": (b"echo '" + b"\n" * 4000 + b"'\n") * 200,
    "a large file": b"\n" * (2 << 20),
    "loops in loops": b"for a in 1 2 3 4 5 6 7 8 9; do " * 9 + b"echo $a; " + b"done; " * 9 + b"\n",
}  # fmt: skip


@pytest.mark.parametrize("script", LOOPS.values(), ids=LOOPS)
def test_too_much_is_an_error(script: bytes) -> None:
    with pytest.raises(LimitExceededError):
        run(script, machine())


def test_grub_s_own_bound_ends_recursion() -> None:
    """MAX_RECURSION_DEPTH ends these in GRUB too; each time it is met there is one level less left."""
    calls = b"".join(b"function f%d { f%d; f%d; f%d; }\n" % (i, i + 1, i + 1, i + 1) for i in range(40)) + b"f0\n"
    assert len(run(calls, machine()).events) < 1000
    twice = machine(self_cfg=b"source /self.cfg\n" * 8)
    assert len(run(b"source /self.cfg\n", twice).events) < 1000


@pytest.mark.parametrize("depth", [3, 40, 100, 1000])
def test_the_depth_of_tests_is_bounded(depth: int) -> None:
    script = b"[ " + b"'(' " * depth + b"a " + b"')' " * depth + b"]\n"
    assert len(run(script, machine()).events) == 1


def test_limits_are_those_given() -> None:
    script = b"echo a\n" * 11
    with pytest.raises(LimitExceededError, match="10 measurements"):
        run(script, machine(), GrubLimits(events=10))
    with pytest.raises(LimitExceededError, match="statements"):
        run(script, machine(), GrubLimits(steps=10))
    with pytest.raises(LimitExceededError, match="text"):
        run(script, machine(), GrubLimits(text=10))
    with pytest.raises(LimitExceededError, match="variable"):
        run(script, machine(), GrubLimits(word=3))
    assert len(run(script, machine()).events) == 11


FRAGMENTS = st.sampled_from([
    b"echo ", b"set a=", b"$a", b'"', b"'", b"\\", b"\n", b" ", b";", b"{", b"}", b"if ", b"then ", b"fi", b"for a in ",
    b"do ", b"done", b"while ", b"[ ", b" ]", b"!", b"function f ", b"f ", b"menuentry x ", b"$", b"${", b"#", b'$"', b"return ",
    b"break ", b"source /a.cfg", b"configfile /a.cfg", b"search --file --set x /a.cfg", b"linux /a.cfg", b"\x00", b"\r", b"\xff",
    b"timeout=0", b"insmod x", b"set prefix=/", b"set root=(hd0)", b"unset root", b"export a", b"eval ", b"load_env", b"-s ", b"(",
])  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=40).map(b"".join) | st.binary(max_size=200))
def test_any_bytes_end_in_a_boot_or_in_one_of_the_library_s_errors(script: bytes) -> None:
    limits = GrubLimits(steps=2000, events=2000, text=1 << 16, scan=1 << 16)
    try:
        boot = run(script, machine(a_cfg=b"echo a\n" + script[:50]), limits)
    except MeaslogError:
        return
    for event in boot.events:
        assert event.digest("sha256")
