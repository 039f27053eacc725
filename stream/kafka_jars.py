"""Apache Kafka's jars, fetched from Maven by `jgo` (44 MB, once) and kept in Maven's own cache."""

from __future__ import annotations

import fcntl
import os
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from eddyline.state.errors import BrokerUnreachable

__all__ = ["exclusive", "kafka_classpath"]

# Resolved one by one: together, the second one's list of versions would override those that Kafka asks for.
_KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
_LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"

_log = structlog.get_logger()


def kafka_classpath() -> str:
    """Kafka's jars, fetched when they are not in Maven's cache yet.

    Raises:
        BrokerUnreachable: they cannot be fetched.
    """
    import jgo  # noqa: PLC0415 (slow to import, and every command reads the broker's settings)
    from jgo.config import GlobalSettings  # noqa: PLC0415

    cache = Path(GlobalSettings.load().repo_cache)
    cache.mkdir(parents=True, exist_ok=True)
    # One process at a time: two that download the same jar would read each other's half.
    with exclusive(cache / ".eddyline.lock"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # jgo leaves answered connections to the collector
        try:
            artifacts = [*jgo.resolve(_KAFKA), *jgo.resolve(_LOG_BINDING)[:1]]
            if not all(artifact.cached_path.exists() for artifact in artifacts):
                _log.info("fetching Apache Kafka, 44 MB, once", into=str(cache))
            jars = []
            for artifact in artifacts:
                jar = Path(artifact.resolve())
                if not zipfile.is_zipfile(jar):  # a download that was interrupted
                    jar.unlink()
                    jar = Path(artifact.resolve())
                jars.append(str(jar))
        except (OSError, RuntimeError, ValueError, SyntaxError) as error:  # SyntaxError: half an XML file
            raise BrokerUnreachable(
                f"Apache Kafka ({_KAFKA}) cannot be fetched from Maven into {cache}: {error}. "
                "Check the network; if a download broke off, delete org/apache/kafka there; or name a broker that "
                "runs already with kafka.bootstrap_servers"
            ) from error
    return os.pathsep.join(jars)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`; another process waits until we let go."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
