from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Commands set up logging, which is global to the process: put back what a test replaces."""
    root = logging.getLogger()
    names = ("aiokafka", "faust", "kafka", "mode", "numba")
    before = root.handlers[:], root.level, [logging.getLogger(name).level for name in names]
    yield
    root.handlers[:], level, levels = before
    root.setLevel(level)
    for name, one in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(one)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and an environment without any settings."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("EDDYLINE_"):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def broker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands do not wait for a broker; what they would ask of it is replaced by the test."""

    def answers(settings: object, timeout_s: float | None, on_wait: Callable[[str], None]) -> None:
        pass

    monkeypatch.setattr("eddyline.stream.kafka.wait_for_broker", answers)
