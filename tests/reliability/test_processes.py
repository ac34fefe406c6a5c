"""Processes that are made by fork, after the library was used, and by spawn, which sends the verifier to them."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.reliability.work import everything, verifier

_FORKING = """
import os, sys
from tests.reliability.work import everything, verifier
judge = verifier()
before = everything(judge)

def forked(generations):
    child = os.fork()
    if child == 0:
        same = everything(judge) == before and (generations == 1 or forked(generations - 1))
        os._exit(0 if same else 9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

sys.exit(0 if forked(2) and everything(judge) == before else 9)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_goes_on_with_what_its_parent_had() -> None:
    """Lanes, caches and verifier of the parent in the child and in the child's child, and in the parent after that."""
    command = [sys.executable, "-W", "error", "-c", _FORKING]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_spawned_workers_judge_as_their_parent_does() -> None:
    judge = verifier()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(everything, (judge,)) == everything(judge)
