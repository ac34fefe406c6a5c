"""What pip's configuration names, for runs elsewhere on this machine; needs no pip.

``index``: the index that only the user's configuration names, as ``PIP_INDEX_URL=...``. ``files``: the system's
configuration files, and the files and folders that they and the environment name, one a line.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def main() -> int:
    """Run."""
    system = [Path(folder, "pip", "pip.conf") for folder in _folders()] + [Path("/etc/pip.conf")]
    home = Path.home()
    user = [home / ".pip" / "pip.conf", Path(os.environ.get("XDG_CONFIG_HOME", home / ".config"), "pip", "pip.conf")]
    if sys.argv[1] == "index":
        found = [value for path in user for name, value in _settings(path) if name == "index-url"]
        if found and "PIP_INDEX_URL" not in os.environ:
            print(f"PIP_INDEX_URL={found[-1]}")
        return 0
    values = [value for path in system for _, value in _settings(path)]
    values += [v for n, v in os.environ.items() if n.startswith(("PIP_", "SSL_CERT_")) or n == "REQUESTS_CA_BUNDLE"]
    words = [Path(word.removeprefix("file://")) for value in values for word in value.split()]
    for path in sorted({p for p in (*system, *words) if p.is_absolute() and p.exists()}):
        print(path)
    return 0


def _folders() -> list[str]:
    return [folder for folder in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if folder]


def _settings(path: Path) -> Iterator[tuple[str, str]]:
    parser = configparser.RawConfigParser()
    parser.read(path)
    for section in parser.sections():
        yield from parser.items(section)


if __name__ == "__main__":
    sys.exit(main())
