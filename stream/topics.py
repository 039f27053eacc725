"""The topics: their names, how each is laid out, creating them, checking that they are as they must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import InvalidReplicationFactorError, TopicAlreadyExistsError, for_code
from pydantic import BaseModel, ConfigDict, Field

from eddyline.state.errors import BrokerUnreachable, ConfigurationError
from eddyline.stream.kafka import KafkaSettings, admin_client

__all__ = ["TopicSettings", "TopicSpec", "Topics", "check_topics", "create_topics", "require_topics", "specs"]

_DAY_MS = 24 * 60 * 60 * 1000


class TopicSettings(BaseModel):
    """Names, sizes and lifetimes of the topics, as `eddyline topics create` makes them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str = Field(
        "eddyline", pattern=r"^[a-zA-Z0-9._-]{1,200}$", description="what every topic's name begins with"
    )
    partitions: int = Field(
        4,
        ge=1,
        description="partitions of clicks, recommendations and states: the most workers that can share",
    )
    replication_factor: int = Field(1, ge=1, description="copies of each partition; 3 where there are 3 brokers")
    clicks_retention_days: int = Field(7, ge=1, description="how long clicks are kept")
    recommendations_retention_days: int = Field(
        30, ge=1, description="how long the newest list of a user without clicks is kept"
    )
    evidence_retention_days: int = Field(
        90,
        ge=1,
        description="how long evidence is kept: longer than the oldest model version that may return",
    )
    examples_retention_days: int = Field(3, ge=1, description="how long training examples are kept")
    dlq_retention_days: int = Field(30, ge=1, description="how long unreadable records are kept")
    erasures_retention_days: int = Field(30, ge=1, description="how long receipts of erasure are kept")


@dataclass(frozen=True)
class Topics:
    """The names of the topics."""

    clicks: str
    recommendations: str
    evidence: str
    examples: str
    models: str
    dlq: str
    states: str
    erasures: str

    @classmethod
    def of(cls, settings: TopicSettings) -> Self:
        """The names that these settings give."""
        prefix = settings.prefix
        return cls(
            clicks=f"{prefix}.clicks.v1",
            recommendations=f"{prefix}.recommendations.v1",
            evidence=f"{prefix}.evidence.v1",
            examples=f"{prefix}.examples.v1",
            models=f"{prefix}.models.v1",
            dlq=f"{prefix}.clicks.v1.dlq",
            states=f"{prefix}.states.v1",
            erasures=f"{prefix}.erasures.v1",
        )


@dataclass(frozen=True)
class TopicSpec:
    """How one topic is laid out: its partitions and its settings inside Kafka."""

    name: str
    partitions: int
    config: dict[str, str]


# A compacted topic keeps the newest record of each key. Kafka compacts closed segments only, so they are
# small and close after ten minutes; it starts when a fifth is outdated, and after a day at the latest, so
# that what was erased is gone from the disk by then. A tombstone stays for a day, for readers far behind.
_COMPACT = {
    "cleanup.policy": "compact",
    "segment.bytes": str(32 * 1024 * 1024),
    "segment.ms": str(10 * 60 * 1000),
    "min.cleanable.dirty.ratio": "0.2",
    "max.compaction.lag.ms": str(_DAY_MS),
    "delete.retention.ms": str(_DAY_MS),
}

# Kafka's own default, written down because packed batches are cut to fit it.
_MESSAGE_LIMIT = {"max.message.bytes": "1048588"}


def specs(settings: TopicSettings) -> list[TopicSpec]:
    """Every topic, as these settings lay it out."""
    names = Topics.of(settings)
    shared = settings.partitions  # a click, its user's state and its user's list stand in the same partition
    layout: list[tuple[str, int, dict[str, str]]] = [
        (names.clicks, shared, _kept(settings.clicks_retention_days)),
        (
            names.recommendations,
            shared,
            _COMPACT | _kept(settings.recommendations_retention_days) | {"cleanup.policy": "compact,delete"},
        ),
        (names.evidence, 1, _kept(settings.evidence_retention_days) | _MESSAGE_LIMIT),
        (names.examples, 1, _kept(settings.examples_retention_days) | _MESSAGE_LIMIT),
        (names.models, 1, _COMPACT),
        (names.dlq, 1, _kept(settings.dlq_retention_days)),
        (names.states, shared, _COMPACT),
        (names.erasures, 1, _kept(settings.erasures_retention_days)),
    ]
    # With three copies, two must have a record before it counts as written: one broker may fail.
    copies = {"min.insync.replicas": "2" if settings.replication_factor >= 3 else "1"}
    return [TopicSpec(name, partitions, config | copies) for name, partitions, config in layout]


def create_topics(kafka: KafkaSettings, settings: TopicSettings) -> list[str]:
    """Create the topics that are missing and wait until they can be used; existing ones stay as they are.

    Returns:
        The names of the topics created.

    Raises:
        BrokerUnreachable: Kafka does not answer or refuses.
        ConfigurationError: there are fewer brokers than `replication_factor`.
    """
    with admin_client(kafka) as admin:
        existing = set(admin.list_topics())
        wanted = {
            spec.name: {
                "num_partitions": spec.partitions,
                "replication_factor": settings.replication_factor,
                "configs": spec.config,
            }
            for spec in specs(settings)
            if spec.name not in existing
        }
        if not wanted:
            return []
        created = []
        for answer in admin.create_topics(wanted, raise_errors=False)["topics"]:
            name, error = answer["name"], for_code(answer["error_code"])
            if error is InvalidReplicationFactorError:
                raise ConfigurationError(
                    f"topic {name} cannot have {settings.replication_factor} copies, Kafka has fewer "
                    "brokers: lower topics.replication_factor"
                )
            if answer["error_code"] == 0:
                created.append(name)
            elif error is not TopicAlreadyExistsError:  # somebody else was quicker: fine
                reason = answer.get("error_message") or error.__name__
                raise BrokerUnreachable(f"Kafka would not create topic {name}: {reason}")
        admin.wait_for_topics(list(wanted))
        return created


def require_topics(kafka: KafkaSettings, settings: TopicSettings) -> None:
    """See to it that every topic is there with the partitions it must have, before anything is taken from one.

    Raises:
        BrokerUnreachable: Kafka does not answer or refuses.
        ConfigurationError: a topic is missing or has other partitions; the message names all of them.
    """
    with admin_client(kafka) as admin:
        layout = specs(settings)
        partitions = _partitions(admin, layout)
    problems = [problem for spec in layout if (problem := _wrong(spec, partitions))]
    if problems:
        raise ConfigurationError("; ".join(problems))


def check_topics(kafka: KafkaSettings, settings: TopicSettings) -> list[str]:
    """What is wrong with the topics, one line each with its remedy; empty when all is right.

    Raises:
        BrokerUnreachable: Kafka does not answer or refuses.
    """
    with admin_client(kafka) as admin:
        layout = specs(settings)
        partitions = _partitions(admin, layout)
        configs = _configs(admin, [spec.name for spec in layout if spec.name in partitions])
    there = {name: count for name, count in partitions.items() if configs.get(name)}  # others are deleted by now
    problems = []
    for spec in layout:
        if problem := _wrong(spec, there):
            problems.append(problem)
        if spec.name not in there:
            continue
        for key in ("cleanup.policy", "retention.ms", "max.message.bytes"):
            wanted, actual = spec.config.get(key), configs[spec.name][key]
            if wanted is not None and not _agrees(key, actual, wanted):
                problems.append(_wrong_config(spec.name, key, actual, wanted))
    return problems


def _kept(days: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(days * _DAY_MS)}


def _partitions(admin: Any, layout: Sequence[TopicSpec]) -> dict[str, int]:
    """How many partitions each of the topics has that are there."""
    listed = set(admin.list_topics())
    names = [spec.name for spec in layout if spec.name in listed]
    return {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics(names)} if names else {}


def _wrong(spec: TopicSpec, partitions: Mapping[str, int]) -> str | None:
    """What is wrong with a topic, apart from its configuration."""
    if not partitions.get(spec.name):
        return f"topic {spec.name} is missing: run `eddyline topics create`"
    return _wrong_partitions(spec, partitions[spec.name]) if partitions[spec.name] != spec.partitions else None


def _configs(admin: Any, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    described = admin.describe_configs(resources, config_filter="all")["topic"]
    return {name: {key: entry["value"] for key, entry in described.get(name, {}).items()} for name in names}


def _agrees(key: str, actual: str, wanted: str) -> bool:
    if key == "cleanup.policy":
        return set(actual.split(",")) == set(wanted.split(","))
    if key == "max.message.bytes":  # more is fine
        return int(actual) >= int(wanted)
    return actual == wanted


def _wrong_partitions(spec: TopicSpec, actual: int) -> str:
    found = f"topic {spec.name} has {actual} partition{'s' if actual != 1 else ''}, want {spec.partitions}: "
    if spec.name.endswith((".clicks.v1", ".recommendations.v1", ".states.v1")):
        return found + (
            f"set topics.partitions to {actual} if clicks, recommendations and states all have that many, "
            "or delete the topic and run `eddyline topics create`"
        )
    return found + "its records must stay in one order, so delete it and run `eddyline topics create`"


def _wrong_config(name: str, key: str, actual: str, wanted: str) -> str:
    setting = ", or change the topic's retention in the settings" if key == "retention.ms" else ""
    return (
        f"topic {name} has {key}={actual}, want {wanted}: change it with `kafka-configs.sh --alter "
        f"--entity-type topics --entity-name {name} --add-config {key}=[{wanted}]`{setting}"
    )
