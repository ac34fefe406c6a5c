"""``python -m measlog``: the ``measlog`` command."""

from __future__ import annotations

import sys

from measlog.cli.main import main

sys.exit(main())
