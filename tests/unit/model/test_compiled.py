"""Machine code that is kept must be of the kernels as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MODULES = {
    "compiled.py": (Path(__file__).parents[3] / "model" / "compiled.py").read_text(encoding="utf-8"),
    "inner.py": "from eddyline.model.compiled import compiled\n\n\n@compiled\ndef inner(x):\n    return x + 1\n",
    "outer.py": (
        "from eddyline.model.compiled import compiled\nfrom eddyline.model.inner import inner\n\n\n"
        "@compiled\ndef outer(x):\n    return inner(x)\n"
    ),
}


def test_a_kernel_is_compiled_anew_when_one_that_it_calls_has_changed(tmp_path: Path) -> None:
    folder = tmp_path / "eddyline" / "model"
    folder.mkdir(parents=True)
    for name, text in MODULES.items():
        (folder / name).write_text(text)

    def run() -> int:
        lines = f"import sys; sys.path.insert(0, {str(tmp_path)!r})", "from eddyline.model.outer import outer"
        code = "\n".join([*lines, "print(outer(1))"])
        # Without bytecode on disk: Python takes it for new if a source of the same size changes within a second.
        return int(subprocess.run([sys.executable, "-IB", "-c", code], check=True, capture_output=True).stdout)

    assert run() == 2
    (folder / "inner.py").write_text(MODULES["inner.py"].replace("x + 1", "x + 5"))
    assert run() == 6
