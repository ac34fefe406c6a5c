"""Print every attack and weak point with its verdicts: ``python -m tests.attacks.table``. 1 where anything passes."""

# ruff: noqa: T201 - this prints
from __future__ import annotations

import sys

from fixtures.attacks.catalogue import ATTACKS, GOOD_BOOTS, NOT_MOUNTED, good_boot
from fixtures.attacks.model import NotApplicableError
from tests.attacks.judge import judge
from tests.attacks.weak_points import WEAK_POINTS


def main() -> int:
    """The table: attack, layer that refuses, codes, and on how many of the boots."""
    boots = [good_boot(name) for name in GOOD_BOOTS]
    passed = 0
    for attack in ATTACKS:
        verdicts = []
        for good in boots:
            try:
                verdicts.append(judge(good, attack.mount(good), attack.needs))
            except NotApplicableError:
                continue
        layers = {v.layer for v in verdicts}
        codes = sorted(set[str]().union(*(v.codes for v in verdicts)))
        passed += "passed" in layers
        name = attack.id.encode("unicode_escape").decode()
        print(f"{name:58} {'/'.join(sorted(layers)):10} on {len(verdicts)} boots: {', '.join(codes)}")
    for number, why in NOT_MOUNTED.items():
        print(f"A{number} is not mounted: {why}")
    for number, (sentence, where) in WEAK_POINTS.items():
        print(f"W{number} {sentence}: {'; '.join(where)}")
    print(
        f"{len(ATTACKS)} attacks of {len({a.number for a in ATTACKS})} numbers on {len(boots)} boots; {passed} passed"
    )
    return 1 if passed else 0


if __name__ == "__main__":
    sys.exit(main())
