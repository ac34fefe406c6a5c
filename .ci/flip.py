"""Flip one byte of the committed capture of a good boot in a checkout: ``flip.py DEFECT CHECKOUT``.

log-data: within the kernel command line that GRUB measured; log-digest: within that event's SHA-256 digest;
log-middle: the byte in the middle of the log; manifest: the byte in the middle of the signed manifest.
"""

from __future__ import annotations

import sys
from pathlib import Path

import measlog as ml


def main() -> int:
    """Run."""
    defect, checkout = sys.argv[1], Path(sys.argv[2])
    folder = checkout / "fixtures" / "flatcar-lab-good"
    if defect == "manifest":
        path = folder / "manifest.dsse.json"
        data = bytearray(path.read_bytes())
        place = len(data) // 2
    else:
        path = folder / "binary_bios_measurements"
        data = bytearray(path.read_bytes())
        place = _in_log(bytes(data), defect)
    data[place] ^= 0x01
    path.write_bytes(data)
    print(f"{path.name}: byte {place} of {len(data)} flipped")
    return 0


def _in_log(data: bytes, defect: str) -> int:
    if defect == "log-middle":
        return len(data) // 2
    event = next(e for e in ml.EventLog.from_bytes(data) if e.pcr == 8 and e.raw.startswith(b"kernel_cmdline: "))
    wanted = event.raw if defect == "log-data" else event.digests["sha256"]
    return data.index(wanted, event.offset) + len(wanted) // 2


if __name__ == "__main__":
    sys.exit(main())
