"""A trainer that lost its partition leaves everything to the next one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from eddyline.stream.config import load_settings
from eddyline.stream.membership import Expelled
from eddyline.stream.trainer import Trainer


def make(tmp_path: Path) -> Trainer:
    folders = {"model_store.url": str(tmp_path / "models"), "state.folder": str(tmp_path / "state")}
    return Trainer(load_settings(None, folders, {}))


def test_nothing_is_published_of_what_was_dropped_meanwhile(tmp_path: Path) -> None:
    async def work() -> list[Any]:
        trainer, published = make(tmp_path), list[Any]()

        async def publish(training: Any) -> None:
            published.append(training)

        trainer._training, trainer._published_at = SimpleNamespace(learner=None, recall=dict), 0  # type: ignore[assignment]
        trainer._publish = publish  # type: ignore[method-assign]
        await trainer._busy.acquire()  # it is learning
        revoking = asyncio.create_task(trainer._revoked(None, set()))
        ticking = asyncio.create_task(trainer._tick())
        await asyncio.sleep(0.7)
        trainer._busy.release()
        await revoking
        await asyncio.sleep(0.1)
        ticking.cancel()
        return published

    assert asyncio.run(work()) == []


def test_what_was_learned_is_not_saved_by_whoever_is_no_member_any_more(tmp_path: Path) -> None:
    async def work() -> list[str]:
        trainer, done = make(tmp_path), list[str]()

        async def confirm() -> None:
            raise Expelled

        async def commit() -> None:
            done.append("committed")

        trainer._training = SimpleNamespace(checkpoint=lambda: done.append("saved"))  # type: ignore[assignment]
        trainer._membership.confirm = confirm  # type: ignore[method-assign]
        trainer.app = SimpleNamespace(consumer=SimpleNamespace(commit=commit))  # type: ignore[assignment]
        await trainer.drain()
        return done

    assert asyncio.run(work()) == ["committed"]
