"""What `eddyline doctor` looks at: is everything there that a worker and a trainer need."""

from __future__ import annotations

import platform
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fsspec

from eddyline.state.errors import EddylineError
from eddyline.stream.kafka import KafkaSettings, wait_for_broker
from eddyline.stream.topics import TopicSettings, check_topics

__all__ = ["Check", "diagnose"]

_PACKAGES = (
    "eddyline",
    "faust-streaming",
    "aiokafka",
    "kafka-python",
    "rocksdict",
    "torch",
    "numba",
    "numpy",
)
_MIN_FREE_BYTES = 1024**3


@dataclass(frozen=True)
class Check:
    """What one check found; `remedy` is empty where nothing is to be done."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def diagnose(kafka: KafkaSettings, topics: TopicSettings, data_folder: Path, model_store_url: str) -> Iterator[Check]:
    """Check one thing after the other: versions, broker, topics, disk, model store.

    Args:
        kafka: where the broker should be.
        topics: how the topics should be.
        data_folder: where the worker keeps its states; created when missing.
        model_store_url: the fsspec URL of the model store; its folder is created when missing.
    """
    yield _versions()
    broker = _broker(kafka)
    yield broker
    if broker.ok:
        yield _topics(kafka, topics)
    else:
        yield Check("topics", ok=False, detail="not checked without a broker", remedy="see broker")
    yield _data_folder(data_folder)
    yield _model_store(model_store_url)


def _versions() -> Check:
    found, missing = [f"Python {platform.python_version()}"], []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        text = f"not installed: {', '.join(missing)}"
        return Check("versions", ok=False, detail=text, remedy="install eddyline again, with its dependencies")
    return Check("versions", ok=True, detail=", ".join(found))


def _broker(kafka: KafkaSettings) -> Check:
    try:
        wait_for_broker(kafka, 2.0, lambda _: None)
    except EddylineError as error:
        return Check("broker", ok=False, detail=str(error), remedy="start Kafka or correct the kafka settings")
    return Check("broker", ok=True, detail=f"answers at {kafka.bootstrap_servers}")


def _topics(kafka: KafkaSettings, topics: TopicSettings) -> Check:
    try:
        problems = check_topics(kafka, topics)
    except EddylineError as error:
        return Check("topics", ok=False, detail=str(error), remedy="let this user describe topics")
    if problems:
        return Check("topics", ok=False, detail="; ".join(problems), remedy="do what each says")
    return Check("topics", ok=True, detail=f"all as they must be, prefix {topics.prefix}")


def _data_folder(folder: Path) -> Check:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"eddyline")
    except OSError as error:
        text = f"{folder} cannot be written: {error.strerror or error}"
        return Check("data folder", ok=False, detail=text, remedy="correct its permissions or state.folder")
    free_bytes = shutil.disk_usage(folder).free
    text = f"{folder} is writable, {free_bytes / 1024**3:.1f} GiB free"
    if free_bytes < _MIN_FREE_BYTES:
        return Check("data folder", ok=False, detail=text, remedy="free at least 1 GiB there")
    return Check("data folder", ok=True, detail=text)


def _model_store(url: str) -> Check:
    content = uuid.uuid4().bytes
    try:
        store, folder = fsspec.url_to_fs(url)
        store.makedirs(folder, exist_ok=True)
        path = f"{folder.rstrip('/')}/.doctor-{content.hex()}"
        store.pipe_file(path, content)
        try:
            intact = store.cat_file(path) == content
        finally:
            store.rm_file(path)
    # A store behind fsspec raises whatever its library does; every one of them means the same here.
    except Exception as error:
        text = f"{url} cannot be written: {error}"
        return Check("model store", ok=False, detail=text, remedy="correct model_store.url or its permissions")
    if not intact:
        text = f"{url} gives back something else than was written"
        return Check("model store", ok=False, detail=text, remedy="choose another model_store.url")
    return Check("model store", ok=True, detail=f"{url} is writable")
