"""Judge the coverage that a run of the tests wrote as JSON: 95 % of all branches, and every one of the parts that judge."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

LEAST = 95.0
WHOLE = ("evidence", "replay", "appraisal")


def main(words: list[str]) -> int:
    """Run."""
    report: dict[str, Any] = json.loads(Path(words[0]).read_text())
    files = {Path(name).parts: found for name, found in report["files"].items()}
    wrong = []
    seen = set()
    for parts, found in sorted(files.items()):
        inside = parts[len(parts) - parts[::-1].index("measlog") :] if "measlog" in parts else ()
        if len(inside) < 2 or inside[0] not in WHOLE:
            continue
        seen.add(inside[0])
        missing = [str(line) for line in found["missing_lines"]]
        missing += [f"{start}->{'exit' if end < 0 else end}" for start, end in found["missing_branches"]]
        if missing:
            wrong.append(f"{'/'.join(inside)}: not covered: {', '.join(missing)}")
    wrong += [f"no file of {name} was measured" for name in WHOLE if name not in seen]
    totals = report["totals"]
    share = 100 * totals["covered_branches"] / max(1, totals["num_branches"])
    if share < LEAST:
        wrong.append(f"less than {LEAST:.0f} % of all branches")
    print(f"branches covered: {totals['covered_branches']} of {totals['num_branches']}, {share:.2f} %")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
