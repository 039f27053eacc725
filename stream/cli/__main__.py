"""`python -m eddyline.stream.cli` is `eddyline`: for starting further processes with the same interpreter."""

from __future__ import annotations

import sys

from eddyline.stream.cli import main

if __name__ == "__main__":
    sys.exit(main())
