"""What importing costs in modules: nobody pays for what is not used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

OPTIONAL = {
    "cbor2", "click", "dask", "hypothesis", "jinja2", "keylime", "matplotlib", "nacl", "pandas", "pgpy", "polars", "pyarrow",
    "pyspark", "ray", "rich", "yaml",
}  # fmt: skip
REQUIRED = {"attr", "attrs", "construct", "cryptography", "numpy"}


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a statement loads in a fresh interpreter."""
    program = f"import sys, json\n{statement}\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout))


def test_import_measlog_loads_nothing_else() -> None:
    """Not even the packages that it depends on."""
    assert not loaded_by("import measlog") & (OPTIONAL | REQUIRED)


def test_looking_around_loads_nothing() -> None:
    assert not loaded_by("import measlog; dir(measlog)") & (OPTIONAL | REQUIRED)


def test_reading_a_log_needs_neither_construct_nor_cryptography() -> None:
    """The framing is walked by hand; declarations and keys come when they are used."""
    assert not loaded_by("import measlog; measlog.EventLog") & {"construct", "cryptography", "numpy", *OPTIONAL}


def test_errors_and_limits_need_nothing() -> None:
    assert not loaded_by("import measlog; measlog.FormatError") & (OPTIONAL | REQUIRED)


@pytest.mark.parametrize("name", ["Evidence", "Quote", "SignedManifest", "Verifier", "flatcar", "policy"])
def test_verifying_needs_no_optional_package(name: str) -> None:
    assert not loaded_by(f"import measlog; measlog.{name}") & OPTIONAL


def test_importing_starts_nothing() -> None:
    """No thread, no warning, no output."""
    program = "import threading, measlog; measlog.Verifier, measlog.EventLog; print(threading.active_count())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
