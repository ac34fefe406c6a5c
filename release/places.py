"""Pythons to try wheels on: those of this machine, and those of Debian's suites, each in a root of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from attrs import frozen

from fixtures.lab.debian import mirror

__all__ = ["Place", "debian", "here"]

ROOT = Path(__file__).resolve().parent.parent
OLDEST, NEWEST = 11, 14
SUITES = ("trixie", "sid")
PACKAGES = "python3,python3-venv,ca-certificates"
# In a mount namespace of its own, which is gone when the command ends.
ENTER = """
target=$1; shift
mount -t proc proc "$target/proc"
mkdir -p "$target/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$target/dev/shm"
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mkdir -p "$target$1"; else mkdir -p "$(dirname "$target$1")"; touch "$target$1"; fi
  mount --bind "$1" "$target$1"
  shift
done
shift
exec chroot "$target" "$@"
"""


@frozen
class Place:
    """An interpreter: its name, the command that it is, and the root that it lives in where that is not this one."""

    name: str
    python: str
    root: Path | None = None

    def command(self, words: Sequence[str], folder: Path, shared: Iterable[Path]) -> list[str]:
        """Run ``words`` in ``folder``, with the folders ``shared`` at the same paths, in this place's root."""
        if self.root is None:
            return ["env", "-u", "PYTHONPATH", "-C", str(folder), *words]
        outside = [str(path) for path in (*shared, *_pip_files()) if path.exists()]
        settings = [
            f"{k}={v}" for k, v in os.environ.items() if k.startswith("PIP_") or k.endswith(("_proxy", "_PROXY"))
        ]
        clean = ["/usr/bin/env", "-i", "-C", str(folder), "HOME=/root", "PATH=/usr/bin:/bin", "LANG=C.UTF-8", *settings]
        enter = ["unshare", "--mount", "--propagation", "private", "bash", "-euc", ENTER, "enter", str(self.root)]
        return [*enter, *outside, "--", *clean, *words]


def here() -> Iterator[Place]:
    """Python 3.11 and later of this machine, one of each version: of pyenv, and on the path."""
    seen = set()
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = [*sorted(pyenv.glob("3.*/bin/python3")), Path("/usr/bin/python3")]
    found += [Path(p) for minor in range(OLDEST, NEWEST + 1) if (p := shutil.which(f"python3.{minor}"))]
    for path in found:
        code = "import sys, sysconfig; print(sys.version.split()[0], sysconfig.get_config_var('DEB_HOST_MULTIARCH'))"
        said = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
        version, *_ = said.stdout.split() or [""]
        if said.returncode == 0 and int(version.split(".")[1]) >= OLDEST and said.stdout not in seen:
            seen.add(said.stdout)
            yield Place(f"{'Debian' if path.parts[1] == 'usr' else 'built'} {version}", str(path))


def debian(suites: Iterable[str], cache: Path) -> Iterator[Place]:
    """The Python of each suite; its root is made by debootstrap where ``cache`` has none. Needs root."""
    for suite in suites:
        root = cache / f"debian-{suite}"
        if not (root / "usr/bin/python3").exists():
            cache.mkdir(parents=True, exist_ok=True)
            command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, str(root), mirror()]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        yield Place(f"Debian {suite}", "/usr/bin/python3", root)


def _pip_files() -> list[Path]:
    """What pip's configuration on this machine names."""
    script = ROOT / ".ci" / "pip_settings.py"
    said = subprocess.run([sys.executable, script, "files"], capture_output=True, text=True, check=True)
    return [Path(line) for line in (*said.stdout.splitlines(), "/etc/ssl/certs/ca-certificates.crt", "/etc/hosts")]
