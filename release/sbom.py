"""The bill of materials of what ``pip install measlog`` installs: ``python -m release.sbom WHEEL -o measlog.cdx.json``.

CycloneDX, from a clean environment with the wheel and what it requires, and nothing else. The versions are those that
were installed; the same versions and ``SOURCE_DATE_EPOCH`` give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from release.build import ROOT, epoch_of
from release.matrix import pip

__all__ = ["bill"]


def bill(wheel: Path) -> str:
    """The bill for this wheel, as JSON."""
    with tempfile.TemporaryDirectory(prefix="measlog-sbom.") as name:
        folder = Path(name, "venv")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        python = folder / "bin" / "python"
        subprocess.run([*pip(python), str(wheel)], check=True)
        command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--mc-type", "library"]
        command += ["--spec-version", "1.6", "--pyproject", str(ROOT / "pyproject.toml"), str(python)]
        settings = os.environ | {"SOURCE_DATE_EPOCH": str(epoch_of(ROOT))}
        said = subprocess.run(command, env=settings, check=True, stdout=subprocess.PIPE, text=True).stdout
    document: dict[str, Any] = json.loads(said)
    return json.dumps(document | {"components": [_nameless(one) for one in document["components"]]}, indent=2) + "\n"


def _nameless(component: dict[str, Any]) -> dict[str, Any]:
    """The component without the address of the file or index that this machine had it from."""
    return {key: value for key, value in component.items() if key != "externalReferences"} | {
        key: [one for one in value if one["type"] != "distribution"]
        for key, value in component.items()
        if key == "externalReferences"
    }


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m release.sbom", description="Write the bill of materials.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    given.output.write_text(bill(given.wheel))
    return 0


if __name__ == "__main__":
    sys.exit(main())
