"""Who was active last."""

from __future__ import annotations

from eddyline.state.recent import Recent


def test_the_longest_idle_are_forgotten_first() -> None:
    recent: Recent[str] = Recent(3)
    recent.note(["ann", "bob", "cid", "ann", "dee"])
    assert list(recent) == ["cid", "ann", "dee"]
    assert ("bob" in recent, "ann" in recent, len(recent)) == (False, True, 3)
    recent.forget(["cid", "nobody"])
    recent.note(["eve"])
    assert list(recent) == ["ann", "dee", "eve"]


def test_none_may_be_remembered() -> None:
    recent: Recent[int] = Recent(0)
    recent.note([1, 2])
    assert list(recent) == []
