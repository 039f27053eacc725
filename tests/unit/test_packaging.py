"""What a wheel contains: every package of the repository."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_folder_of_code_is_in_the_wheel() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        file.parent.relative_to(ROOT)
        for top in setuptools["package-dir"].values()
        for file in (ROOT / top).rglob("*.py")
    }
    assert set(setuptools["packages"]) == {".".join(("eddyline", *folder.parts)) for folder in folders}


def test_every_file_that_is_no_code_is_in_the_wheel() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for package, top in setuptools["package-dir"].items():
        patterns = setuptools["package-data"][package]
        listed = {file for pattern in patterns for file in (ROOT / top).glob(pattern)}
        there = {
            file
            for file in (ROOT / top).rglob("*")
            if file.is_file() and file.suffix not in (".py", ".pyc", ".nbi", ".nbc")
        }
        assert there == listed
