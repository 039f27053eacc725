"""The backtest: order of test and learning, event-time refreshes, determinism."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import numpy as np
import pytest

from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import Counts, CountsSettings
from eddyline.model.engine import EngineSettings
from eddyline.model.learner import Learner, LearnerSettings, Losses
from eddyline.model.parts import ABLATIONS, Ablation
from eddyline.replay.backtest import BacktestSettings, backtest, outline
from eddyline.replay.contender import Answers, Contender, Progress, Question, WarmUp
from eddyline.replay.pipeline import Eddyline, PipelineSettings
from eddyline.replay.pretrain import PretrainSettings
from eddyline.replay.published import RefreshPolicy
from eddyline.replay.synthetic import SyntheticSettings, synthetic_clicks
from eddyline.replay.ticks import Tick
from eddyline.state.errors import EddylineError
from eddyline.state.examples import Examples
from eddyline.state.records import Click

LOG = list(
    synthetic_clicks(SyntheticSettings(clicks=1_500, users=120, items=80, topics=6, drift="abrupt", new_items=0.3))
)


class Spy:
    """A contender that writes down what it is told; its answers are the newest item first."""

    name = "spy"

    def __init__(self, length: int = 20) -> None:
        self.length = length
        self.calls: list[str] = []
        self.visible: list[int] = []
        self.learned: list[int] = []
        self.past = 0

    @property
    def chosen(self) -> Mapping[str, object]:
        return {}

    def train(self, past: WarmUp, on_progress: Progress) -> None:
        self.calls.append("train")
        self.past = len(past.item)

    def answer(self, tick: Tick) -> Answers:
        self.calls.append("answer")
        self.visible += [len(tick.counts)] * len(tick)
        top = np.full((len(tick), self.length), -1, np.int32)
        return Answers(np.ones(len(tick), np.int32), top, np.full(len(tick), np.nan, np.float32))

    def learn(self, tick: Tick) -> None:
        self.calls.append("learn")
        self.learned += tick.clicks.offset.tolist()

    def settle(self, past: WarmUp, on_progress: Progress) -> None:
        self.calls.append("settle")

    def retention(self) -> float | None:
        return None


def run(
    contenders: Sequence[Contender], engine: EngineSettings, clicks: Iterable[Click] = LOG, **settings: object
) -> dict:
    log = list(clicks)
    asked = BacktestSettings.model_validate({"k": (2, 5), "windows": 4, **settings})
    return backtest(lambda: log, contenders, asked, engine, ClickSettings(), CountsSettings())


@pytest.fixture
def eddyline(engine_settings: EngineSettings) -> Callable[..., Eddyline]:
    def make(
        without: Ablation | None = None,
        *,
        published: bool = False,
        weights_every_ms: int = 30_000,
        batch: int = 64,
        refresh_clicks: int | None = None,
        refresh_per_s: float = 1e12,
    ) -> Eddyline:
        services = PipelineSettings(
            engine_settings,
            LearnerSettings(batch=batch, replayed=64),
            PretrainSettings(epochs=2, least_steps=20),
            weights_every_ms=weights_every_ms,
            publish_examples=64,
            refresh=RefreshPolicy(10**6, refresh_clicks, 0.0, refresh_per_s),
        )
        return Eddyline(services, Question(5, exclude_seen=False), published=published, without=without)

    return make


def test_phases_come_in_order_and_every_click_is_learned_once(engine_settings: EngineSettings) -> None:
    spy = Spy()
    result = run([spy], engine_settings)
    assert spy.learned == list(range(len(LOG)))
    train, settle = spy.calls.index("train"), spy.calls.index("settle")
    assert set(spy.calls[:train]) == {"learn"}
    assert "answer" in spy.calls[train:settle]
    assert spy.past == 600  # four fifths of the warm-up
    assert result["data"]["warm_up_clicks"] == 750
    assert result["data"]["scored_clicks"] == 750


def test_nothing_is_learned_from_a_tick_before_all_of_it_is_answered(engine_settings: EngineSettings) -> None:
    """Clicks of one second see the same catalogue, however many new items are among them."""
    log = LOG[:-10]
    last_ms = log[-1].ts_ms + 5_000 - log[-1].ts_ms % 1_000
    log += [
        Click(event_id=f"x{n}", user_id=f"x{n}", item_id=f"x{n}", ts_ms=last_ms + 10 * n, kind="click")
        for n in range(20)
    ]
    spy = Spy()
    run([spy], engine_settings, log)
    assert len(set(spy.visible[-20:])) == 1
    at_once = Spy()
    run([at_once], engine_settings, log, counts_every_ms=0)
    assert np.diff(at_once.visible[-20:]).tolist() == [1] * 19


def test_only_the_kinds_asked_for_count(engine_settings: EngineSettings) -> None:
    purchases = [click.kind == "purchase" for click in LOG]
    spy = Spy()
    result = run([spy], engine_settings, kinds=("purchase",))
    assert result["data"]["scored_clicks"] == sum(purchases[750:])
    assert spy.learned == list(range(len(LOG)))


def test_with_new_only_repeats_do_not_count(engine_settings: EngineSettings) -> None:
    result = run([Spy()], engine_settings, new_only=True)
    assert 0 < result["data"]["scored_clicks"] < 750


def test_the_warm_up_can_end_at_a_time(engine_settings: EngineSettings) -> None:
    result = run([Spy()], engine_settings, warm_up_until_ms=LOG[1_000].ts_ms)
    assert result["data"]["warm_up_clicks"] == next(n for n, c in enumerate(LOG) if c.ts_ms >= LOG[1_000].ts_ms)


def test_a_log_out_of_order_is_refused(engine_settings: EngineSettings) -> None:
    with pytest.raises(EddylineError, match="validate"):
        run([Spy()], engine_settings, [*LOG[:900], LOG[0], *LOG[900:]])


def test_a_short_log_is_refused() -> None:
    with pytest.raises(EddylineError, match="at least 100"):
        outline(lambda: LOG[:150], BacktestSettings())


def test_the_same_log_and_seed_give_the_same_bytes(
    eddyline: Callable[..., Eddyline], engine_settings: EngineSettings
) -> None:
    def once() -> str:
        result = run([eddyline(published=True)], engine_settings)
        for figures in result["models"].values():
            del figures["events_per_s"], figures["warm_up_s"]
        return json.dumps(result)

    assert once() == once()


def test_lists_refreshed_before_every_click_are_those_of_a_request(
    eddyline: Callable[..., Eddyline], engine_settings: EngineSettings
) -> None:
    always, sometimes, never, slow = (
        run([eddyline(published=True, refresh_clicks=clicks, refresh_per_s=per_s)], engine_settings, counts_every_ms=0)
        for clicks, per_s in ((1, 1e12), (64, 1e12), (None, 1e12), (1, 1e-12))
    )
    figures = always["models"]["eddyline"]
    assert figures["by"]["activity"]["0"]["recall@5"] > 0  # newcomers read a list as well
    assert figures["published"]["recall@5"] == pytest.approx(figures["recall@5"])
    found = [result["models"]["eddyline"]["published"]["ndcg@5"] for result in (always, sometimes, never)]
    assert found[2] < min(found[:2])
    assert found[0] != found[1]
    assert slow["models"]["eddyline"]["published"] == never["models"]["eddyline"]["published"]


@pytest.mark.parametrize(("weights_every_ms", "refresh_clicks"), [(30_000, None), (10**15, 16)])
def test_newcomers_read_a_list_that_is_made_anew_with_the_others(
    weights_every_ms: int,
    refresh_clicks: int | None,
    eddyline: Callable[..., Eddyline],
    engine_settings: EngineSettings,
) -> None:
    new = [msgspec.structs.replace(click, user_id=f"new-{n}") for n, click in enumerate(LOG[750:])]
    one = eddyline(published=True, weights_every_ms=weights_every_ms, refresh_clicks=refresh_clicks)
    figures = run([one], engine_settings, [*LOG[:750], *new])["models"]["eddyline"]
    assert figures["by"]["activity"]["0"]["clicks"] == 750
    assert 0.5 * figures["recall@5"] < figures["published"]["recall@5"] != figures["recall@5"]
    never = eddyline(published=True, weights_every_ms=10**15)
    assert run([never], engine_settings, [*LOG[:750], *new])["models"]["eddyline"]["published"]["recall@5"] == 0


def test_eddyline_beats_chance_and_reports_everything(
    eddyline: Callable[..., Eddyline], engine_settings: EngineSettings
) -> None:
    result = run([eddyline(published=True), Spy(5)], engine_settings)
    figures = result["models"]["eddyline"]
    assert figures["recall@5"] > 3 * 5 / 80
    assert 0 < figures["published"]["recall@5"] <= 1
    assert figures["published"]["recall@5"] != figures["recall@5"]
    assert figures["log_loss"] < np.log(80)
    assert 0 <= figures["retention"] <= 1
    assert len(figures["retention_windows"]) == 10
    assert sum(figures["sources"].values()) == pytest.approx(1.0)
    assert figures["coverage@5"] > 0.2
    assert [window["clicks"] for window in figures["windows"]] == [188, 187, 188, 187]
    assert figures["against"]["spy"]["ndcg@5"]["ratio"] < 1  # the spy says it was always right


@pytest.mark.parametrize("without", ABLATIONS)
def test_every_part_can_be_left_out(
    without: Ablation, eddyline: Callable[..., Eddyline], engine_settings: EngineSettings
) -> None:
    whole, part = eddyline(), eddyline(without)
    models = run([whole, part], engine_settings, LOG[:900])["models"]
    one, other = models["eddyline"], models[f"eddyline-without-{without}"]
    assert one["log_loss"] != other["log_loss"]
    assert other["recall@5"] > 0.05
    share = {"counts": "co_clicks", "history": "history", "popularity": "popularity", "neural": "neural"}
    if without in share:
        assert other["sources"][share[without]] == 0.0
        assert one["sources"][share[without]] > 0.0
    assert (other["retention"] is None) == (without == "neural")


def test_weights_are_served_from_the_next_refresh_on(
    eddyline: Callable[..., Eddyline], engine_settings: EngineSettings
) -> None:
    soon, never = eddyline(weights_every_ms=0), eddyline(weights_every_ms=10**15)
    runs = [run([one], engine_settings)["models"]["eddyline"] for one in (soon, never)]
    assert runs[0]["log_loss"] < runs[1]["log_loss"]


def test_blocks_that_are_a_click_short_of_a_step_are_a_step(
    eddyline: Callable[..., Eddyline], engine_settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    learn = Learner.learn

    def spied(learner: Learner, batch: Sequence[Examples], counts: Counts) -> Losses | None:
        sizes.append(sum(len(examples) for examples in batch))
        return learn(learner, batch, counts)

    monkeypatch.setattr(Learner, "learn", spied)
    pairs = [msgspec.structs.replace(click, ts_ms=LOG[0].ts_ms + n // 2 * 1_000) for n, click in enumerate(LOG)]
    run([eddyline(batch=37)], engine_settings, pairs)  # a block has at most 37 of the 750 clicks
    assert sizes[-20:-1] == [36] * 19


def figures_of(result: dict) -> dict[str, float]:
    figures = result["models"]["eddyline"]
    told = {name: figures[name] for name in ("recall@5", "ndcg@5", "mrr@2", "log_loss")}
    told |= {f"window {n}": window["ndcg@5"] for n, window in enumerate(figures["windows"])}
    return told | {f"published {name}": value for name, value in (figures["published"] or {}).items()}


def test_blocks_give_what_clicks_give_one_by_one(
    eddyline: Callable[..., Eddyline], engine_settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = [
        # ticks of a few clicks now and then
        msgspec.structs.replace(click, ts_ms=click.ts_ms - click.ts_ms % 120_000)
        for click in LOG
    ]
    at_once = run([eddyline(published=True, weights_every_ms=10**15)], engine_settings, log)
    monkeypatch.setattr("eddyline.replay.backtest._DENSE_BYTES", 0)  # no room: one tick in a block
    by_tick = run([eddyline(published=True, weights_every_ms=10**15)], engine_settings, log)
    assert figures_of(at_once) == pytest.approx(figures_of(by_tick), rel=1e-5)


def test_ticks_that_are_too_long_are_counted_when_they_end(
    eddyline: Callable[..., Eddyline], engine_settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = [msgspec.structs.replace(click, ts_ms=click.ts_ms - click.ts_ms % 36_000_000) for click in LOG]
    at_once = run([eddyline(published=False, weights_every_ms=10**15), Spy(5)], engine_settings, log)
    monkeypatch.setattr("eddyline.replay.backtest.MOST", 5)
    cut = run([eddyline(published=False, weights_every_ms=10**15), spy := Spy(5)], engine_settings, log)
    assert spy.learned == list(range(len(log)))
    assert figures_of(cut) == pytest.approx(figures_of(at_once), rel=1e-5)


def test_models_that_go_by_ticks_change_nothing_for_the_others(
    eddyline: Callable[..., Eddyline], engine_settings: EngineSettings
) -> None:
    alone = run([eddyline()], engine_settings)["models"]["eddyline"]
    beside = run([eddyline(), Spy(5)], engine_settings)["models"]["eddyline"]
    assert {*beside["against"], *beside["against_by"]["activity"]["20+"]} == {"spy"}
    for figures in (alone, beside):
        del figures["events_per_s"], figures["warm_up_s"], figures["against"], figures["against_by"]
    assert json.dumps(alone) == json.dumps(beside)
