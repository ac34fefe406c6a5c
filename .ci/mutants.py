"""Make mutants with mutmut, and run the tests on them. `.ci/mutation` calls this in a copy of the checkout.

    python .ci/mutants.py make [PROCESSES]
    python .ci/mutants.py test [NAME ...]

mutmut's own runner collects the tests anew for each mutant. Here they are collected once, and the quick ones run once
without a mutant, which fills the caches of fixtures; each mutant is then a fork of that process. Tests that killed other
mutants of the same function, or else of the same module, come first, then the quick ones. Which test runs which function
is learned when a test is new, and kept beside mutmut's verdicts. $MEASLOG_MUTATION_TESTS names other files of tests than
mutmut's configuration: what kills a mutant need not be all that runs it.
"""

from __future__ import annotations

import fnmatch
import gc
import os
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import mutmut.__main__ as tool
import pytest
from _pytest.runner import runtestprotocol
from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.stats import load_stats, save_stats
from mutmut.utils.file_utils import copy_also_copy_files, copy_src_dir, setup_source_paths, walk_mutatable_files
from mutmut.utils.format_utils import mangled_name_from_mutant_name

KILLED, SURVIVED, TIMEOUT, NO_TESTS = 1, 0, 36, 33
_STATUS = {KILLED: "killed", SURVIVED: "survived", TIMEOUT: "timeout", NO_TESTS: "no tests"}

Mutant = tuple[SourceFileMutationData, str]


def make(processes: int) -> None:
    """Write the mutants of each file that changed; verdicts on functions that did not are kept."""
    set_mutant_under_test("mutant_generation")
    Path("mutants").mkdir(exist_ok=True)
    copy_src_dir()
    copy_also_copy_files()
    setup_source_paths()
    print(tool.create_mutants(processes))


def chosen(names: Sequence[str]) -> list[Mutant]:
    """The mutants that no test killed yet and that match a name (* for any), in the order of the names.

    Without names, those that have no verdict.
    """
    found: list[Mutant] = []
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        data.meta_path = data.meta_path.resolve()
        found += [(data, mutant) for mutant in data.exit_code_by_key]
    if not names:
        return [(data, mutant) for data, mutant in found if data.exit_code_by_key[mutant] is None]
    left = [(data, mutant) for data, mutant in found if data.exit_code_by_key[mutant] != KILLED]
    return list(dict.fromkeys(one for name in names for one in left if fnmatch.fnmatch(one[1], name)))


class Mutants:
    """A pytest plugin that runs, mutant by mutant, the collected tests that concern it."""

    def __init__(self, mutants: list[Mutant], *, jobs: int, seconds: float) -> None:
        self.mutants, self.jobs, self.seconds = mutants, jobs, seconds
        # By function, and by module.
        self.kills: defaultdict[str, Counter[str]] = defaultdict(Counter)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Take the place of pytest's own loop over the tests."""
        items = {item.nodeid.removeprefix("mutants/"): item for item in session.items}
        wanted = {mangled_name_from_mutant_name(name) for _data, name in self.mutants}
        self._learn(items)
        quick = {test for test in items if state().duration_by_test.get(test, 0) <= self.seconds}
        tests = {name: state().tests_by_mangled_function_name.get(name, set()) & quick for name in wanted}
        seconds = dict(state().duration_by_test)
        for test in sorted(set().union(*tests.values())):
            if seconds[test] <= self.seconds / 10:
                start = time.process_time()
                if not _passes(items[test]):
                    pytest.exit(f"{test} fails without a mutant", returncode=1)
                seconds[test] = time.process_time() - start
        # What is here now is never collected in a fork, whose pages stay shared.
        gc.collect()
        gc.freeze()
        running: dict[int, tuple[Mutant, int, list[str]]] = {}
        for data, mutant in self.mutants:
            function = mangled_name_from_mutant_name(mutant)
            kills, near = self.kills[function], self.kills[function.rpartition(".")[0]]
            order = sorted(tests[function], key=lambda test: (-kills[test], -near[test], seconds[test]))
            if not order:
                self._record(data, mutant, NO_TESTS, "")
                continue
            if len(running) == self.jobs:
                self._wait(running)
            reading, writing = os.pipe()
            pid = os.fork()
            if not pid:
                limit = int(time.process_time() + self.seconds + 30 + 10 * max(seconds[test] for test in order))
                resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
                set_mutant_under_test(mutant)
                end = time.process_time() + self.seconds
                for number, test in enumerate(order):
                    if time.process_time() > end:
                        break
                    if not _passes(items[test]):
                        os.write(writing, number.to_bytes(4, "big"))
                        os._exit(KILLED)
                os._exit(SURVIVED)
            os.close(writing)
            running[pid] = ((data, mutant), reading, order)
        while running:
            self._wait(running)
        return True

    @staticmethod
    def _learn(items: dict[str, pytest.Item]) -> None:
        """Which functions the tests run that mutmut has not seen yet."""
        known = state()
        new = [test for test in items if test not in known.duration_by_test]
        set_mutant_under_test("stats")
        for test in new:
            known._stats.clear()  # noqa: SLF001 - as mutmut's own collector does
            start = time.process_time()
            if not _passes(items[test]):
                pytest.exit(f"{test} fails without a mutant", returncode=1)
            known.duration_by_test[test] = time.process_time() - start
            for function in known._stats:  # noqa: SLF001
                known.tests_by_mangled_function_name[function].add(test)
        set_mutant_under_test("")
        if new:
            os.chdir("..")
            save_stats()
            os.chdir("mutants")

    def _wait(self, running: dict[int, tuple[Mutant, int, list[str]]]) -> None:
        pid, status = os.wait()
        (data, mutant), reading, order = running.pop(pid)
        answer = os.read(reading, 4)
        os.close(reading)
        killer = order[int.from_bytes(answer, "big")] if answer else ""
        if killer:
            function = mangled_name_from_mutant_name(mutant)
            self.kills[function][killer] += 1
            self.kills[function.rpartition(".")[0]][killer] += 1
        code = os.waitstatus_to_exitcode(status)
        self._record(data, mutant, TIMEOUT if code < 0 else code, killer)

    def _record(self, data: SourceFileMutationData, mutant: str, verdict: int, killer: str) -> None:
        data.exit_code_by_key[mutant] = verdict
        data.save()
        print(_STATUS.get(verdict, verdict), mutant, killer, file=sys.__stdout__, flush=True)


def _passes(item: pytest.Item) -> bool:
    """Run one test; whether it and what it needs passed."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    return all(report.passed or report.skipped for report in runtestprotocol(item, log=False, nextitem=None))


def test(names: Sequence[str]) -> int:
    """Run the tests on the mutants of these names."""
    load_stats()
    mutants = chosen(names)
    print(len(mutants), "mutants")
    plugin = Mutants(
        mutants,
        jobs=int(os.environ.get("MEASLOG_MUTATION_JOBS", "1")),
        seconds=float(os.environ.get("MEASLOG_MUTATION_SECONDS", "10")),
    )
    selection = os.environ.get("MEASLOG_MUTATION_TESTS", "").split() or config().pytest_add_cli_args_test_selection
    os.chdir("mutants")
    sys.path.insert(0, str(Path("src").resolve()))
    set_mutant_under_test("")
    arguments = ["--rootdir=.", "--tb=line", "-q", "-p", "no:cacheprovider", "--assert=plain"]
    return int(pytest.main([*arguments, *selection], plugins=[plugin]))


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    if command == "make":
        make(int(words[0]) if words else 1)
    else:
        sys.exit(test(words))
