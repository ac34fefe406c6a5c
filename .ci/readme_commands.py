"""Write the first two ``sh`` code blocks of a README, one line each, into the files 1 and 2 of a folder."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def main() -> int:
    """Run."""
    readme, folder = Path(sys.argv[1]), Path(sys.argv[2])
    blocks = re.findall(r"^```sh\n(.*?)^```$", readme.read_text(), flags=re.MULTILINE | re.DOTALL)
    for number, block in enumerate(blocks[:2], start=1):
        command = block.strip()
        if not command or "\n" in command:
            print(f"{readme}: sh block {number} is not one line: {block!r}")
            return 1
        (folder / str(number)).write_text(command + "\n")
    if len(blocks) < 2:
        print(f"{readme}: {len(blocks)} sh blocks, expected two commands")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
