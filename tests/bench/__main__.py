"""Benchmarks: `make bench`. Each prints its figures beside a yardstick taken in the same run."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from backtest import measure_backtest
from throughput import measure

if __name__ == "__main__":
    measure_backtest()
    with tempfile.TemporaryDirectory(prefix="eddyline-bench-") as folder:
        measure(Path(folder), clicks=int(sys.argv[1]) if len(sys.argv) > 1 else 60_000)
