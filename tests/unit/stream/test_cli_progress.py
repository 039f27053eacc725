"""Progress without a terminal: a line every ten seconds."""

from __future__ import annotations

import pytest

from eddyline.stream.cli.progress import progress, replaying, stages


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("eddyline.stream.cli.progress.time", made)
    return made


def test_a_backtest_says_what_is_done_how_fast_and_the_recall(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with replaying() as advance:
        for second in range(1, 26):
            clock.now_s += 1
            advance("asking", 1000 * second, 60_000, 0.25)
        clock.now_s += 10
        advance("fitting", 7, 500, None)
        clock.now_s += 10
        advance("eddyline: epoch 2 of 5", 300, 1000, None)
    assert capsys.readouterr().err.splitlines() == [
        "asking: 10,000 of 60,000, 1,000/s, recall 0.250",
        "asking: 20,000 of 60,000, 1,000/s, recall 0.250",
        "fitting: 7 of 500",
        "eddyline: epoch 2 of 5, 30%",
    ]


def test_rows_and_stages(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", None) as read:
        for rows in (500, 1000):
            clock.now_s += 10
            read(rows)
    with stages() as advance:
        advance("training", 0.1)
        clock.now_s += 11
        advance("training", 0.5)
    assert capsys.readouterr().err.splitlines() == [
        "reading: 500, 50/s",
        "reading: 1,000, 50/s",
        "training, 50%",
    ]


def test_what_takes_no_time_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", 10) as read:
        read(10)
    with replaying() as advance:
        advance("asking", 10, 10, 0.5)
    assert capsys.readouterr().err == ""
