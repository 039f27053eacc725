"""What a process tells about itself: logs on stderr, Prometheus metrics and a liveness answer over HTTP.

Nothing here names a user or an item.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import IO, Any, Literal, Self

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from eddyline.state.errors import ConfigurationError

__all__ = ["Metrics", "MetricsServer", "TelemetrySettings", "configure_logging", "serve"]

# Libraries that log each poll and each rebalance: the least severe line of theirs that a user can act on.
# kafka-python logs every refused connection as an error with a traceback; what matters it raises as well.
_CHATTY = {
    "aiokafka": logging.WARNING,
    "faust": logging.WARNING,
    "kafka": logging.CRITICAL,
    "mode": logging.WARNING,
    "numba": logging.WARNING,
}
# At debug level kafka-python writes its whole configuration and aiokafka every request, passwords included.
_TALKATIVE = {"kafka": logging.INFO, "aiokafka": logging.INFO}
_TELL_AGAIN_S = 30.0


class TelemetrySettings(BaseModel):
    """Logs and metrics."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log line written; `debug` also lets the Kafka libraries talk."
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="Log lines for people, or one JSON object a line."
    )
    metrics_host: str = Field("127.0.0.1", description="Address that /metrics and /healthz listen on.")
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="Port of /metrics and /healthz; empty is off, 0 takes a free one."
    )


class _StderrHandler(logging.StreamHandler[IO[str]]):
    """Writes to what `sys.stderr` is at that moment, so that lines go above a live progress bar."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> IO[str]:  # type: ignore[override]
        return sys.stderr


class _UnansweredOnce(logging.Filter):
    """Lets one line through every half minute of the many with which aiokafka says that no broker answers.

    Of its warnings it lets one of each kind through in that time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told_at: dict[str, float] = {}  # by kind of warning; all errors are of one

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka") or record.levelno < logging.WARNING:
            return True
        error = record.levelno >= logging.ERROR
        kind = "" if error else str(record.msg)
        if time.monotonic() - self._told_at.get(kind, -_TELL_AGAIN_S) < _TELL_AGAIN_S:
            return False
        self._told_at[kind] = time.monotonic()
        if not error:
            return True
        reason = record.getMessage().rstrip(".")
        record.msg = "Kafka does not answer, trying again (%s): is it running, is kafka.bootstrap_servers right?"
        record.args = (reason,)
        record.exc_info = None
        return True


def configure_logging(settings: TelemetrySettings) -> None:
    """Send every log line of this process, the libraries' too, to stderr in one shape."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True)
        if settings.log_format == "json"
        else structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
    ]
    render: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    handler = _StderrHandler()
    if settings.log_level != "debug":
        handler.addFilter(_UnansweredOnce())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name, level in _CHATTY.items():
        quiet = logging.getLogger(name)
        quiet.handlers.clear()
        quiet.propagate = True
        talkative = _TALKATIVE.get(name, logging.NOTSET)
        quiet.setLevel(talkative if settings.log_level == "debug" else max(level, root.level))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


class Metrics:
    """The metrics of one process, on a registry of their own (two workers in one test do not collide)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.clicks = Counter("eddyline_clicks_total", "Clicks applied to a state", registry=registry)
        self.redelivered = Counter(
            "eddyline_redelivered_total",
            "Clicks seen again after a crash or rebalance, and skipped",
            registry=registry,
        )
        self.dead_letters = Counter(
            "eddyline_dead_letters_total", "Records sent to the dead letters", registry=registry
        )
        self.lists = Counter("eddyline_lists_total", "Recommendation lists published", ["cause"], registry=registry)
        self.click_to_list_seconds = Histogram(
            "eddyline_click_to_list_seconds",
            "Time from a click's event time to its list being published",
            buckets=(0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300),
            registry=registry,
        )
        self.step_seconds = Histogram(
            "eddyline_step_seconds",
            "Model time of one micro-batch",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
            registry=registry,
        )
        self.lag_clicks = Gauge(
            "eddyline_lag_clicks", "Clicks in the assigned partitions not yet applied", registry=registry
        )
        self.seconds_since_last_click = Gauge(
            "eddyline_seconds_since_last_click", "Seconds since the last click was applied", registry=registry
        )
        self.model_version = Gauge("eddyline_model_version", "Version of the model in use", registry=registry)
        self.model_age_seconds = Gauge(
            "eddyline_model_age_seconds", "Seconds since the model in use was trained", registry=registry
        )
        self.model_swaps = Counter(
            "eddyline_model_swaps_total", "Times another model version was taken into use", registry=registry
        )
        self.evidence_lag = Gauge(
            "eddyline_evidence_lag", "Evidence records not yet folded into the counts", registry=registry
        )
        self.users = Gauge("eddyline_users", "User states held by this process", registry=registry)
        self.examples = Counter("eddyline_examples_total", "Examples the trainer has scored", registry=registry)
        self.recall_at_20 = Gauge(
            "eddyline_recall_at_20", "Recall@20 on the newest scored window", ["model"], registry=registry
        )
        self.versions_published = Counter(
            "eddyline_versions_published_total", "Model versions published", registry=registry
        )
        self.versions_rejected = Counter(
            "eddyline_versions_rejected_total", "Model versions that failed acceptance", registry=registry
        )
        self.buffer_examples = Gauge("eddyline_buffer_examples", "Examples in the replay buffer", registry=registry)


class MetricsServer:
    """The HTTP endpoint of one process: `/metrics`, and `/healthz` with 200 or 503. A context manager."""

    def __init__(self, host: str, port: int, metrics: Metrics, healthy: Callable[[], bool]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(metrics.registry))
                elif self.path == "/healthz":
                    status = HTTPStatus.OK if healthy() else HTTPStatus.SERVICE_UNAVAILABLE
                    self._answer(status, "text/plain", b"ok\n" if status is HTTPStatus.OK else b"not live\n")
                else:
                    self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"/metrics or /healthz\n")

            def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """A scrape every few seconds is not news."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(
    settings: TelemetrySettings, metrics: Metrics, healthy: Callable[[], bool] = lambda: True
) -> MetricsServer | None:
    """Start the HTTP endpoint; None where `metrics_port` is empty.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    if settings.metrics_port is None:
        return None
    try:
        return MetricsServer(settings.metrics_host, settings.metrics_port, metrics, healthy)
    except OSError as error:
        address = f"{settings.metrics_host}:{settings.metrics_port}"
        raise ConfigurationError(
            f"cannot serve metrics on {address} ({error.strerror or error}): "
            "set telemetry.metrics_port to a free port, or leave it empty for none"
        ) from error
