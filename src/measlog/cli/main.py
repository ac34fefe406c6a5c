"""The entry point of the ``measlog`` command: exit statuses, and no traceback whatever happens.

0: affirming, or done. 1: not affirming, or differences. 2: wrong usage. 3: unreadable input, unauthentic evidence or
manifests.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

_MISSING = 2
_UNREADABLE = 3
_INTERRUPTED = 130  # 128 + SIGINT, as shells count
_BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = _say("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        status = _BROKEN_PIPE
    except OSError as error:
        status = _say(f"standard output: {error.strerror or error}", _UNREADABLE)
    if status in {_BROKEN_PIPE, _UNREADABLE}:
        _let_go_of_stdout()
    return status


def _run(argv: list[str]) -> int:
    if any(importlib.util.find_spec(package) is None for package in ("click", "rich")):
        return _say("the commands need click and rich: pip install 'measlog[cli]'", _MISSING)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    from measlog.cli.app import run

    return run(argv)


def _say(message: str, status: int) -> int:
    try:
        sys.stderr.write(f"measlog: {message}\n")
        sys.stderr.flush()
    except OSError:
        pass  # nobody is listening, and the status says it too
    return status


def _let_go_of_stdout() -> None:
    # The interpreter flushes standard output once more at exit and would complain about what cannot be written.
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, sys.stdout.fileno())
            os.close(nothing)
        except (OSError, ValueError):
            pass


if __name__ == "__main__":
    sys.exit(main())
