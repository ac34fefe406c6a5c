"""What is wrong gives one clear line that names the file and the place, exit status 3, quickly; never a traceback."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import Runner
from tests.reference.test_manifest import make_manifest

LOG_COMMANDS = (("show",), ("show", "--json"), ("replay",), ("replay", "--json"))
SPEC_ID = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, 1) + struct.pack("<HH", 0x000B, 32) + b"\0"


def header(size: int | None = None) -> bytes:
    return struct.pack("<II20sI", 0, 3, bytes(20), len(SPEC_ID) if size is None else size) + SPEC_ID


def event(count: int = 1, size: int = 4) -> bytes:
    return struct.pack("<IIIH", 4, 4, count, 0x000B) + bytes(32) + struct.pack("<I", size) + bytes(4)


# name: (bytes, what the message must say besides the file's name)
NOT_LOGS: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "empty"),
    "one byte": (b"\x03", "too few"),
    "text": (b"MEASURED BOOT\n" * 100, "not an event log"),
    "an ELF program": (Path(sys.executable).resolve().read_bytes()[:100_000], "not an event log"),
    "a header of 4 GiB": (header(0xFFFFFFFF), "4294967295 bytes"),
    "event data of 4 GiB": (header() + event(size=0xFFFFFFFF), "events[1].eventSize"),
    "event data of 4 GiB, later": (header() + event() * 50 + event(size=0xFFFFFFFF), "events[51].eventSize"),
    "2^31 digests": (header() + event(count=1 << 31), "2147483648 digests"),
    "2^32 - 1 algorithms": (
        header().replace(struct.pack("<IHH", 1, 11, 32), struct.pack("<IHH", 0xFFFFFFFF, 11, 32)),
        "4294967295",
    ),
    "cut inside an event": (header() + event()[:-1], "byte"),
    "an unknown algorithm": (header() + event().replace(struct.pack("<H", 11), struct.pack("<H", 0x99), 1), "0x0099"),
}


@pytest.mark.parametrize("name", NOT_LOGS)
def test_what_is_no_log_is_refused_with_the_place(measlog: Runner, tmp_path: Path, name: str) -> None:
    data, said = NOT_LOGS[name]
    path = tmp_path / "some.log"
    path.write_bytes(data)
    for words in LOG_COMMANDS:
        done = measlog(words[0], path, *words[1:])
        assert (done.status, done.out) == (3, "")
        assert done.err.startswith(f"measlog: {path}: ")
        assert said in done.err
        assert "byte" in done.err
        assert done.err.count("\n") == 1


def _directory(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


PLACES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (lambda path: None, "No such file"),  # noqa: ARG005
    "directory": (_directory, "directory"),
    "symbolic link to itself": (_loop, "symbolic links"),
    "a terabyte": (_huge, "1099511627776 bytes"),
}


@pytest.mark.parametrize("name", PLACES)
def test_what_cannot_be_read_is_named(measlog: Runner, tmp_path: Path, name: str) -> None:
    make, said = PLACES[name]
    path = tmp_path / "some.log"
    make(path)
    for words in (*LOG_COMMANDS, ("manifest", "show")):
        done = measlog(*words, path)
        assert (done.status, done.out) == (3, "")
        assert done.err.startswith(f"measlog: {path}: ")
        assert said in done.err


def test_what_may_not_be_read_is_named(measlog: Runner, tmp_path: Path) -> None:
    path = tmp_path / "some.log"
    path.write_bytes(header())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    done = measlog("show", path)
    assert done.status == 3
    assert "Permission denied" in done.err


def test_a_device_without_end_is_read_no_further_than_the_limit(measlog: Runner) -> None:
    done = measlog("show", "/dev/zero")
    assert (done.status, done.out) == (3, "")
    assert "/dev/zero: more than 67108864 bytes" in done.err


def test_a_pipe_and_a_pseudo_file_without_size_are_read_to_their_end(
    measlog: Runner, fixtures: Path, tmp_path: Path
) -> None:
    data = (fixtures / "flatcar-lab-good" / "binary_bios_measurements").read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(
        [sys.executable, "-c", f"open({str(pipe)!r}, 'wb').write(open(0, 'rb').read())"], stdin=-1
    ) as writer:
        assert writer.stdin is not None
        writer.stdin.write(data)
        writer.stdin.close()
        done = measlog("replay", pipe, "--json")
    assert (
        done.document
        == measlog("replay", fixtures / "flatcar-lab-good" / "binary_bios_measurements", "--json").document
    )
    # The kernel says that this file has 0 bytes, which it has not.
    assert Path("/proc/self/status").stat().st_size == 0
    assert "not an event log" in measlog("show", "/proc/self/status").err


USAGE: tuple[tuple[str, ...], ...] = (
    (),
    ("nonsense",),
    ("show",),
    ("show", "a", "b"),
    ("show", "a", "--pcr", "24"),
    ("show", "a", "--pcr", "x"),
    ("show", "a", "--colour"),
    ("replay", "a", "--alg", "md5"),
    ("quote",),
    ("quote", "--quote", "a", "--signature", "b", "--ak", "c"),
    ("quote", "--quote", "a", "--signature", "b", "--ak", "c", "--nonce", ""),
    ("quote", "--quote", "a", "--signature", "b", "--ak", "c", "--nonce", "abc"),
    ("quote", "--quote", "a", "--signature", "b", "--ak", "c", "--nonce", "0x00"),
    ("quote", "--quote", "a", "--signature", "b", "--ak", "c", "--nonce", "00 11"),
    ("verify",),
    ("verify", "a", "--nonce", "00"),
    ("verify", "a", "--manifest", "m", "--manifest-key", "k"),
    ("verify", "a", "--nonce", "00", "--manifest", "m"),
    ("verify", "a", "--nonce", "00", "--manifest", "m", "--manifest-key", "k", "--unsafe-unsigned-manifest"),
    ("verify", "a", "--log", "b", "--nonce", "00", "--manifest", "m", "--manifest-key", "k"),
    ("verify", "a", "--pcrs", "b", "--nonce", "00", "--manifest", "m", "--manifest-key", "k"),
    ("verify", "--nonce", "00", "--manifest", "m", "--manifest-key", "k"),
    ("verify", "--log", "b", "--ak", "c", "--nonce", "00", "--manifest", "m", "--manifest-key", "k"),
    ("verify", "a", "--nonce", "00", "--manifest", "m", "--manifest-key", "k", "--bank", "md5"),
    ("verify", "a", "--nonce", "00", "--manifest", "m", "--manifest-key", "k", "--min-version", "-1"),
    ("verify", "a", "--nonce", "00", "--manifest", "m", "--manifest-key", "k", "--ak-chain", "c"),
    ("verify", "a", "--nonce", "00", "--manifest", "m", "--manifest-key", "k", "--ak-roots", "r"),
    ("manifest",),
    ("manifest", "nonsense"),
    ("manifest", "build", "a"),
    ("manifest", "sign", "a", "-o", "b"),
    ("baseline", "learn", "-o", "b"),
    ("baseline", "learn", "folder", "-o", "b"),
    ("baseline", "learn", "=00", "-o", "b"),
)


@pytest.mark.parametrize("words", USAGE, ids=" ".join)
def test_wrong_usage_is_status_2_on_standard_error(measlog: Runner, words: tuple[str, ...]) -> None:
    done = measlog(*words)
    assert (done.status, done.out) == (2, "")
    assert done.err


def test_a_sample_with_a_nonce_that_is_none_is_wrong_usage(measlog: Runner, fixtures: Path, tmp_path: Path) -> None:
    done = measlog("baseline", "learn", f"{fixtures / 'flatcar-lab-good'}=xyz", "-o", tmp_path / "b")
    assert done.status == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not JSON"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "not a JSON object"),
        (b"{}", "format"),
        (b'{"format": "measlog.manifest/9"}', "format"),
        (b'{"format": "measlog.manifest/1"}', "manifest"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"format": 1e999}', "not an integer"),
    ],
)
def test_what_is_no_manifest_is_refused(measlog: Runner, tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(data)
    key = tmp_path / "key"
    key.write_bytes(b"")
    for words in (("manifest", "show", path), ("manifest", "sign", path, "--key", key, "-o", tmp_path / "out")):
        done = measlog(*words)
        assert (done.status, done.out) == (3, "")
        assert done.err.startswith(f"measlog: {path}: ")
        assert said in done.err
    assert not (tmp_path / "out").exists()


def test_keys_that_cannot_sign_are_refused_and_nothing_is_written(
    measlog: Runner, fixtures: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(make_manifest().to_json())
    keys = fixtures / "lab" / "keys"
    (tmp_path / "empty").write_bytes(b"")
    for key in (
        keys / "manifest.pub",
        keys / "lab.key",
        tmp_path / "empty",
        fixtures / "flatcar-lab-good" / "ORIGIN.md",
    ):
        done = measlog("manifest", "sign", path, "--key", key, "-o", tmp_path / "out")
        assert done.status == 3
        assert done.err.startswith(f"measlog: {key}: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "m.json"]


def test_what_is_no_image_is_refused_and_nothing_is_written(measlog: Runner, tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(1 << 20))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name in ("zeros", "empty", "folder", "missing"):
        done = measlog("manifest", "build", tmp_path / name, "-o", tmp_path / "out")
        assert (done.status, done.out) == (3, "")
        assert done.err.startswith(f"measlog: {tmp_path / name}: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_bad_file_costs_less_than_a_second_and_200_megabytes(tmp_path: Path) -> None:
    for name, (data, _) in NOT_LOGS.items():
        path = tmp_path / "some.log"
        path.write_bytes(data)
        code = (
            "import sys; from measlog.cli.main import main; status = main(sys.argv[1:]);"
            # Not ru_maxrss, which starts at the peak of the process that this one was forked from.
            "print(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1]); sys.exit(status)"
        )
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code, "show", path], capture_output=True, text=True, check=False)
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 3, name
        assert spent.ru_utime + spent.ru_stime - began.ru_utime - began.ru_stime < 1
        assert int(done.stdout) < 200 * 1024
