"""`python -m mednext_engine.cli`, for launchers such as torchrun."""

from __future__ import annotations

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
