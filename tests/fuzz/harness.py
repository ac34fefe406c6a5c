"""The atheris harness: ``python -m tests.fuzz.harness TARGET [libFuzzer options] [CORPUS]``.

Without a corpus folder it starts from the seeds of :mod:`tests.fuzz.seeds`. What crashes is written by libFuzzer; keep
it, made as small as ``-minimize_crash=1`` makes it, in ``fixtures/fuzz/TARGET/``, where the ordinary tests go through it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["measlog"]):
    # Modules that measlog imports late, when nothing is instrumented any more.
    import measlog.records.device_path_nodes
    import measlog.records.device_path_text
    import measlog.replay.digests  # noqa: F401
    from tests.fuzz.seeds import seeds
    from tests.fuzz.targets import TARGETS, fuzz


def main() -> None:
    """Fuzz one target until told to stop."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz.harness TARGET [options]; targets: {' '.join(TARGETS)}")
    name = sys.argv.pop(1)
    target = TARGETS[name]
    if all(argument.startswith("-") for argument in sys.argv[1:]):
        folder = Path(tempfile.mkdtemp(prefix=f"measlog-{name}-"))
        for number, data in enumerate(seeds().get(name, ())):
            (folder / str(number)).write_bytes(data)
        sys.argv.append(str(folder))
    atheris.Setup(sys.argv, lambda data: fuzz(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
