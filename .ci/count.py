"""Count the tests of JUnit reports: ``N passed, N failed``, or with ``--no-skips-for-shared`` judge what was skipped."""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path


def main(words: list[str]) -> int:
    """Run."""
    judge = "--no-skips-for-shared" in words
    reports = [Path(word) for word in words if not word.startswith("--")]
    counts: Counter[str] = Counter()
    refused = []
    for report in reports:
        for case in ET.parse(report).getroot().iter("testcase"):
            skipped = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                counts["failed"] += 1
            elif skipped is not None:
                counts["skipped"] += 1
                reason = f"{skipped.get('message', '')} {skipped.text or ''}"
                if "shared" in reason and os.environ.get("MEASLOG_REQUIRE_SHARED"):
                    refused.append(f"{case.get('classname')}::{case.get('name')}: {skipped.get('message')}")
            else:
                counts["passed"] += 1
    if judge:
        for line in refused:
            print(f"skipped although the shared data is there: {line}")
        if not counts["passed"]:
            print("no test was run")
        return 1 if refused or not counts["passed"] else 0
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
