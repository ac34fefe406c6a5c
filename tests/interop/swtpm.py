"""A software TPM for tests, spoken to by tpm2-tools over loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

TOOLS = ("swtpm", "swtpm_setup", "swtpm_ioctl", "tpm2")


def need(*tools: str) -> None:
    """Skip the calling test, saying so, where a tool is not installed."""
    absent = [tool for tool in tools if shutil.which(tool) is None]
    if absent:
        pytest.skip(f"needs {', '.join(absent)}, which is not installed")


class SoftwareTpm:
    """One running swtpm and the folder that its client works in."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.tcti = f"swtpm:host=127.0.0.1,port={port}"

    def run(
        self, *words: str | Path, stdin: bytes | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command of tpm2-tools, or any other that reads TPM2TOOLS_TCTI."""
        done = subprocess.run(
            [str(word) for word in words],
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env={**os.environ, "TPM2TOOLS_TCTI": self.tcti, "TCTI": self.tcti},
            check=False,
            timeout=60,
        )
        if check and done.returncode:
            raise AssertionError(f"{words}: {done.returncode}: {done.stderr.decode()}")
        return done

    def tpm2(
        self, *words: str | Path, stdin: bytes | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        return self.run("tpm2", *words, stdin=stdin, check=check)

    def extend(self, pcr: int, digests: Mapping[str, bytes]) -> None:
        self.tpm2("pcrextend", f"{pcr}:" + ",".join(f"{bank}={value.hex()}" for bank, value in digests.items()))

    def restart(self) -> None:
        """Power off and on: registers start again, keys stay."""
        self.tpm2("shutdown", "-c")
        self.run("swtpm_ioctl", "--tcp", f"127.0.0.1:{self.port + 1}", "-i")
        self.tpm2("startup", "-c")


def _free_ports() -> int:
    """A port whose neighbour is free too."""
    for _ in range(50):
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no two free ports in a row")


@contextmanager
def software_tpm(folder: Path, banks: Sequence[str] = ("sha1", "sha256", "sha384")) -> Iterator[SoftwareTpm]:
    """Make a TPM in the folder, start it for at most ten minutes, end it afterwards."""
    need(*TOOLS)
    state = folder.resolve() / "tpm-state"
    state.mkdir(parents=True)
    subprocess.run(
        ["swtpm_setup", "--tpm2", "--tpmstate", str(state), "--pcr-banks", ",".join(banks), "--createek"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    with running_tpm(folder, state) as tpm:
        yield tpm


@contextmanager
def running_tpm(folder: Path, state: Path) -> Iterator[SoftwareTpm]:
    """Start the TPM whose state lies in ``state``, with ``folder`` for its client's files."""
    need(*TOOLS)
    port = _free_ports()
    process = subprocess.Popen(
        [
            *("timeout", "600", "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state.resolve()}"),
            *("--server", f"type=tcp,bindaddr=127.0.0.1,port={port},disconnect"),
            *("--ctrl", f"type=tcp,bindaddr=127.0.0.1,port={port + 1}"),
            *("--flags", "not-need-init,startup-clear"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        tpm = SoftwareTpm(folder, port)
        for _ in range(100):
            if tpm.tpm2("pcrread", "sha256:0", check=False).returncode == 0:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("swtpm does not answer")
        yield tpm
    finally:
        process.terminate()
        process.wait(10)
