"""The command as a process: exit statuses whatever happens to its streams, what it needs, how quickly it starts."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from measlog.cli import app
from measlog.cli.errors import InputError
from measlog.cli.files import read, write
from measlog.cli.main import main
from measlog.cli.progress import working
from measlog.cli.spread import _spread
from tests.cli.command import SCHEMAS, Runner

MEASLOG = [sys.executable, "-m", "measlog"]


def run(*words: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MEASLOG, *map(str, words)], text=True, check=False, **settings)


@pytest.fixture
def log(fixtures: Path) -> Path:
    return fixtures / "flatcar-lab-good" / "binary_bios_measurements"


def test_a_reader_that_goes_away_is_no_error_of_ours(log: Path) -> None:
    with subprocess.Popen([*MEASLOG, "show", log, "--json"], stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 128 + signal.SIGPIPE
    assert said == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_said_once(log: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run("replay", log, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 3
    assert done.stderr == "measlog: standard output: No space left on device\n"


def test_an_interrupt_ends_without_traceback(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # A shell that starts the tests in the background has interrupts ignored, and a child inherits that.
    shell = ["env", "--default-signal=INT", *MEASLOG, "show", str(pipe)]
    # Opening the pipe waits until the command has it open.
    with subprocess.Popen(shell, stdout=-1, stderr=-1) as process, pipe.open("wb"):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"measlog: interrupted\n")


def test_a_terminal_gets_a_table_without_markup_of_the_log(log: Path) -> None:
    try:
        outer, inner = pty.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminal can be had here: {error}")
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "300", "NO_COLOR": ""}
    with subprocess.Popen(
        [*MEASLOG, "show", log, "--pcr", "8"], stdout=inner, stderr=inner, env=environment
    ) as process:
        os.close(inner)
        chunks = []
        while True:
            try:
                chunk = os.read(outer, 65536)
            except OSError:
                break
            if not chunk:
                break
            chunks.append(chunk)
    os.close(outer)
    text = b"".join(chunks).decode()
    assert process.returncode == 0
    assert "\x1b[" in text
    assert "kernel command line" in text
    assert "[ -f (hd0,gpt1)/flatcar/first_boot ]" in text


def test_without_its_packages_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "rich" else object())
    assert main(["show", "x"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "measlog: the commands need click and rich: pip install 'measlog[cli]'\n")


def test_a_defect_of_ours_is_one_line(measlog: Runner, monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    def broken(path: object) -> None:
        raise ZeroDivisionError(f"\x1b[31m {path}")

    monkeypatch.setattr("measlog.cli.show.read_log", broken)
    monkeypatch.delenv("MEASLOG_TRACEBACK", raising=False)
    done = measlog("show", log)
    assert done.status == 3
    assert done.err.startswith("measlog: this is a defect of measlog: ZeroDivisionError: \\x1b[31m ")
    monkeypatch.setenv("MEASLOG_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main(["show", str(log)])


@pytest.mark.parametrize("kind", [MemoryError, RecursionError])
def test_too_much_is_one_line(
    measlog: Runner, monkeypatch: pytest.MonkeyPatch, log: Path, kind: type[Exception]
) -> None:
    def broken(_: object) -> None:
        raise kind

    monkeypatch.setattr("measlog.cli.show.read_log", broken)
    done = measlog("show", log)
    assert done.status == 3
    assert done.err.count("\n") == 1


def test_a_system_that_fails_is_told_apart_from_standard_output(
    measlog: Runner, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    for failed, said in (
        (OSError(5, "Input/output error", "/dev/sr0"), "/dev/sr0: Input/output error"),
        (OSError(28, "No space left on device"), "standard output: No space left on device"),
    ):

        def broken(_: object, error: OSError = failed) -> None:
            raise error

        monkeypatch.setattr("measlog.cli.show.read_log", broken)
        done = measlog("show", log)
        assert (done.status, done.err) == (3, f"measlog: {said}\n")


@pytest.mark.parametrize("terminal", [True, False])
def test_long_work_shows_a_sign_of_life_on_a_terminal_alone(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    with working("reading \x1b[31mimage") as progress:
        assert (progress is not None) == terminal
        if progress is not None:
            progress(1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b[31mimage" not in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-m", "a", "b", "x"], ["-m", "a", "-m", "b", "x"]),
        (["x", "-m", "a", "b"], ["x", "-m", "a", "-m", "b"]),
        (["-m", "a", "b"], ["-m", "a", "b"]),
        # What follows "--" is an argument, whatever it looks like.
        (["-m", "a", "b", "--", "x"], ["-m", "a", "-m", "b", "--", "x"]),
        (["-m", "a", "--", "b"], ["-m", "a", "--", "b"]),
        (["-m", "a", "-o", "b", "x"], ["-m", "a", "-o", "b", "x"]),
        (["-m", "a", "--flag", "x"], ["-m", "a", "--flag", "x"]),
    ],
)
def test_an_option_that_is_repeatable_takes_several_words(words: list[str], expected: list[str]) -> None:
    options = [click.Option(["-m"], multiple=True), click.Option(["-o"]), click.Option(["--flag"], is_flag=True)]
    assert _spread(words, [*options, click.Argument(["x"])]) == expected


def test_where_a_command_takes_any_number_of_arguments_words_stay_what_they_are() -> None:
    any_number = [click.Option(["-m"], multiple=True), click.Argument(["x"], nargs=-1)]
    assert _spread(["-m", "a", "b"], any_number) == ["-m", "a", "b"]


def test_every_command_has_help_with_an_example(measlog: Runner) -> None:
    def walk(command: Any, words: tuple[str, ...]) -> None:
        done = measlog(*words, "--help")
        assert (done.status, done.err) == (0, "")
        if words:
            assert f"Example: measlog {' '.join(words)}" in " ".join(done.out.split())
        context = command.make_context("x", [], resilient_parsing=True)
        for name in getattr(command, "list_commands", lambda _: [])(context):
            walk(command.get_command(context, name), (*words, name))

    walk(app.cli, ())


def test_the_version_is_that_of_the_package(measlog: Runner) -> None:
    done = measlog("--version")
    assert done.status == 0
    project = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    assert f'version = "{done.out.split()[1]}"' in project


def test_help_loads_no_command_and_no_parser() -> None:
    code = (
        "import sys; from measlog.cli.main import main; main(['--help']); print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert not loaded & {"numpy", "cryptography", "construct", "rich", "measlog.cli.show", "measlog.log"}


def test_replay_needs_no_cryptography(log: Path) -> None:
    code = f"import sys; from measlog.cli.main import main; main(['replay', {str(log)!r}]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stderr.split()) & {"numpy", "cryptography", "construct"}


def test_output_is_whole_or_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out"
    write(target, b"first")
    write(target, b"second")
    assert target.read_bytes() == b"second"
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask

    def fails(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(InputError, match=r"out: No space left"):
        write(target, b"third")
    assert target.read_bytes() == b"second"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_output_goes_where_a_link_points_to(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_output_to_what_is_no_file(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with pytest.raises(InputError, match="directory"):
        write(tmp_path, b"x")
    with pytest.raises(InputError, match="No such file"):
        write(tmp_path / "missing" / "out", b"x")
    write("/dev/null", b"x")
    write("-", b"\x00\xff")
    assert capfdbinary.readouterr().out == b"\x00\xff"


def test_a_file_of_just_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(100))
    assert read(path, 100) == bytes(100)
    with pytest.raises(InputError, match="100 bytes, at most 99"):
        read(path, 99)


def test_schemas_are_valid_and_named_after_their_document() -> None:
    import jsonschema

    for path in sorted(SCHEMAS.glob("*.json")):
        schema = json.loads(path.read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["$id"] == f"urn:measlog:{path.stem.removesuffix('-1')}:1"
