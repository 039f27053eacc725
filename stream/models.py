"""The models topic: the manifest of the version in use, and loading what it names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import structlog

from eddyline.model.checkpoint import Manifest, ModelStore
from eddyline.model.counts import Counts, CountsSettings
from eddyline.model.model import Model, untrained_model
from eddyline.model.versions import Arrays, counts_from_arrays, model_from_arrays
from eddyline.state.errors import ConfigurationError, CorruptModel, EddylineError
from eddyline.stream.clients import kafka_errors, open_consumer, open_producer, patience_s
from eddyline.stream.follow import Follower, Record
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.topics import Topics

__all__ = [
    "Rows",
    "announce",
    "announced",
    "evidence_span",
    "load_model",
    "load_version",
    "manifest_of",
    "newest_manifest",
    "starting_point",
]

_log = structlog.get_logger()


def announce(kafka: KafkaSettings, topics: Topics, manifest: Manifest) -> None:
    """Tell every worker and trainer to use a version.

    Raises:
        BrokerUnreachable: Kafka does not answer.
    """
    with open_producer(kafka, topics.models) as producer, kafka_errors(kafka):
        sent = producer.send(topics.models, key=manifest.name.encode(), value=manifest.encode())
        sent.get(timeout=patience_s(kafka))


def evidence_span(kafka: KafkaSettings, topics: Topics) -> tuple[int, int]:
    """The oldest offset of the evidence there is, and the end; an end above 0 says that item rows are given.

    Raises:
        BrokerUnreachable: Kafka does not answer.
        ConfigurationError: there is no such topic.
    """
    consumer, partitions = open_consumer(kafka, topics.evidence)
    try:
        with kafka_errors(kafka):
            (oldest,) = consumer.beginning_offsets(partitions).values()
            (end,) = consumer.end_offsets(partitions).values()
            return oldest, end
    finally:
        consumer.close()


def manifest_of(record: Record, name: str) -> Manifest | None:
    """The manifest a record announces for this model; None for another model's, or one that cannot be read."""
    if record.key != name.encode() or record.value is None:
        return None
    try:
        return Manifest.decode(record.value)
    except CorruptModel as error:
        _log.error("refused an announced model, the current one stays", offset=record.offset, reason=str(error))
        return None


def newest_manifest(records: Sequence[Record], name: str) -> Manifest | None:
    """The last manifest that the records announce for this model."""
    found = None
    for record in records:
        found = manifest_of(record, name) or found
    return found


async def announced(models: Follower, name: str) -> Manifest | None:
    """The manifest announced last for this model, up to where the models topic ended at the follower's start."""
    return newest_manifest([record async for polled in models.to_end() for record in polled], name)


def load_model(store: ModelStore, manifest: Manifest, dimension: int | None, beside: Rows | None = None) -> Model:
    """The weights a manifest names, checked.

    Args:
        store: where they are.
        manifest: what they must be.
        dimension: D of the services that will use it; None where that is not known.
        beside: the item rows they are to stand beside; they must be of the same evidence.

    Raises:
        CorruptModel: the files are not what the manifest says, or the rows are of other evidence.
        ConfigurationError: it is of another dimension.
    """
    arrays = store.load(manifest.version, "weights", manifest)
    if beside is not None and not _same_rows(Rows.of(manifest, arrays), beside):
        raise CorruptModel(
            f"version {manifest.version} was trained on other evidence than this stream's, its item rows differ: "
            "use it with a new topic prefix, or promote a version of this stream"
        )
    model = model_from_arrays(arrays, manifest.version, manifest.trained_until_ms)
    if dimension not in (None, found := model.items.vector.shape[1]):
        raise ConfigurationError(
            f"version {manifest.version} has {found} dimensions, the services' engine.shape.dimension is {dimension}: "
            "change the setting, or start with another model_store.name"
        )
    return model


class Rows(NamedTuple):
    """Which items have which rows, as far as the evidence was folded.

    Attributes:
        hashes: of the items, by row; those of the last rows may be left out.
        given: rows given so far.
        evidence_offset: the first offset of the evidence that is not folded yet.
    """

    hashes: npt.NDArray[np.uint64]
    given: int
    evidence_offset: int

    @classmethod
    def of(cls, manifest: Manifest, arrays: Arrays) -> Rows:
        """The rows of a version."""
        return cls(arrays["items.hash"], manifest.items, manifest.evidence_offset)


def _same_rows(a: Rows, b: Rows) -> bool:
    """Whether one is the other with more evidence folded. Rows are never taken back."""
    less, more = sorted((a, b), key=lambda rows: (rows.evidence_offset, rows.given))
    if less.given > more.given or (less.evidence_offset == more.evidence_offset and less.given < more.given):
        return False
    both = min(len(a.hashes), len(b.hashes))
    return np.array_equal(a.hashes[:both], b.hashes[:both])


def load_version(
    store: ModelStore, manifest: Manifest, settings: CountsSettings, dimension: int
) -> tuple[Model, Counts]:
    """The model a manifest names and the counts it stands beside.

    Raises:
        CorruptModel: the files are not what the manifest says.
        ConfigurationError: it is of another dimension.
    """
    counts = counts_from_arrays(store.load(manifest.version, "counts", manifest), settings)
    return load_model(store, manifest, dimension), counts


def starting_point(
    store: ModelStore, announced: Manifest | None, counts: CountsSettings, dimension: int
) -> tuple[Model, Counts, int | None]:
    """What a starting process begins with: a model, its counts, and the evidence offset to go on from.

    That is the announced version, or the newest older one that can be read, or an untrained model with empty
    counts and the whole evidence topic (None) to fold.

    Raises:
        ConfigurationError: the version is of another dimension than the settings say.
    """
    older = [version for version in reversed(store.versions()) if announced and version != announced.version]
    for version in ([announced.version] if announced else []) + older:
        try:
            manifest = store.manifest(version)
            model, stored = load_version(store, manifest, counts, dimension)
        except ConfigurationError:
            raise
        except EddylineError as error:
            _log.error("refused a model version", version=version, reason=str(error))
            continue
        return model, stored, manifest.evidence_offset
    return untrained_model(dimension), Counts(counts), None
