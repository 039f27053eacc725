"""`eddyline pretrain`: a first version of the model from a historical log, before the stream starts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from eddyline.state.errors import BrokerUnreachable, ConfigurationError, EddylineError
from eddyline.stream.cli.logs import DEFAULT_COLUMNS, LogColumns, Skipped, logged_clicks
from eddyline.stream.cli.options import DEFAULTS, AsJson, Options
from eddyline.stream.cli.output import print_json, talk

if TYPE_CHECKING:
    from eddyline.model.checkpoint import Manifest, ModelStore
    from eddyline.replay.first_model import FirstModel
    from eddyline.stream.config import Settings

__all__ = ["register"]


def register(app: App) -> None:
    """Add `eddyline pretrain`."""
    app.command(pretrain)


def pretrain(
    log: Annotated[Path, Parameter(help="Log to learn from: .csv, .jsonl (each also with .gz) or .parquet.")],
    /,
    *,
    limit: Annotated[int | None, Parameter(help="Stop after so many clicks.")] = None,
    offline: Annotated[
        bool, Parameter(help="Only store the version; `eddyline model promote` takes it into use.")
    ] = False,
    skip_bad: Annotated[
        bool, Parameter(help="Skip rows that cannot be read instead of stopping at the first.")
    ] = False,
    columns: LogColumns = DEFAULT_COLUMNS,
    as_json: AsJson = False,
    options: Options = DEFAULTS,
) -> None:
    """Train the model's first version from a log, in the order of time, before the stream's first click."""
    if limit is not None and limit <= 0:
        raise ConfigurationError(f"pretrain: --limit {limit}: want more than 0")
    try:
        settings = options.all_settings() if offline else options.all_connected()
    except BrokerUnreachable as error:
        raise BrokerUnreachable(f"{error}; --offline stores the version without Kafka") from error
    skipped = Skipped(log) if skip_bad else None
    source, total = logged_clicks(log, columns, limit, skipped)

    import msgspec  # noqa: PLC0415
    import torch  # noqa: PLC0415

    from eddyline.model.checkpoint import ModelStore  # noqa: PLC0415
    from eddyline.replay.first_model import first_model  # noqa: PLC0415
    from eddyline.stream.cli.progress import progress, stages  # noqa: PLC0415

    store = ModelStore(settings.model_store)
    _check_unused(settings, store, offline=offline)
    torch.set_num_threads(1)  # at these sizes more threads are slower
    clicks = []
    with progress("reading", total) as advance:
        for click in source:
            clicks.append(click)
            if len(clicks) % 1000 == 0:
                advance(len(clicks))
    if skipped is not None:
        skipped.tell()
    with stages() as advance_stage:
        made = first_model(
            clicks,
            settings.clicks,
            settings.counts,
            settings.engine,
            settings.pretrain,
            settings.learner,
            advance_stage,
        )
    manifest = _save(store, made)
    if as_json:
        print_json(msgspec.to_builtins(manifest))
    talk(
        f"version {manifest.version}: trained on {made.pretrained.clicks:,} clicks, {made.pretrained.epochs} passes; "
        f"recall@20 on the {made.scored:,} clicks after them {made.metrics['recall@20']:.3f}, "
        f"decayed popularity {made.metrics['recall@20 decayed-popularity']:.3f}"
    )
    if offline:
        talk(f"`eddyline model promote {manifest.version}` takes it into use, before the stream's first click")
        return
    _announce(settings, store, manifest)


def _check_unused(settings: Settings, store: ModelStore, *, offline: bool) -> None:
    """Raise if a stream has begun already: its items have their rows, and a first version would give others."""
    from eddyline.stream.models import evidence_span  # noqa: PLC0415
    from eddyline.stream.topics import Topics  # noqa: PLC0415

    if store.load_checkpoint("trainer") is not None:
        raise EddylineError(
            f"{settings.model_store.url} has the checkpoint of a trainer, which goes on from what it learned from a "
            "stream: choose another model_store.name for a new one"
        )
    topics = Topics.of(settings.topics)
    if not offline and evidence_span(settings.kafka, topics)[1]:
        raise EddylineError(_begun(topics.evidence))


def _begun(topic: str) -> str:
    return (
        f"{topic} is not empty: the stream has begun, and a version made before it cannot join it. Let the trainer "
        "learn from the stream, or start a new stream with another topics.prefix and model_store.name"
    )


def _save(store: ModelStore, made: FirstModel) -> Manifest:
    from eddyline.model.versions import counts_to_arrays, model_to_arrays  # noqa: PLC0415

    now_ms = time.time_ns() // 1_000_000
    return store.save(
        {"weights": model_to_arrays(made.model, made.counts), "counts": counts_to_arrays(made.counts)},
        version=store.next_version(),
        parent=0,
        created_ms=now_ms,
        trained_until_ms=now_ms,
        cause="pretrain",
        encoder=f"{made.model.encoder_id:016x}",
        items=len(made.counts),
        examples=made.pretrained.clicks + made.learned,
        evidence_offset=0,
        metrics=made.metrics,
    )


def _announce(settings: Settings, store: ModelStore, manifest: Manifest) -> None:
    from eddyline.stream.models import announce, evidence_span  # noqa: PLC0415
    from eddyline.stream.topics import Topics  # noqa: PLC0415

    topics = Topics.of(settings.topics)
    if evidence_span(settings.kafka, topics)[1]:  # while the model was trained
        raise EddylineError(f"version {manifest.version} is stored but not in use: {_begun(topics.evidence)}")
    announce(settings.kafka, topics, manifest)
    talk(f"version {manifest.version} is announced: workers and the trainer begin with it")
