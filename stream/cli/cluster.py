"""`eddyline broker`, `topics` and `doctor`: what must stand before a worker or a trainer can run."""

from __future__ import annotations

import signal
import time
from dataclasses import asdict
from types import FrameType
from typing import Annotated

from cyclopts import App, Parameter

from eddyline.stream.cli.options import DEFAULTS, AsJson, Options
from eddyline.stream.cli.output import print_json, talk

__all__ = ["register"]

_CHECK_FAILED = 3

broker = App(name="broker", help="Run one Kafka broker on this machine, without Docker.")
topics = App(name="topics", help="Create or check the topics.")


def register(app: App) -> None:
    """Add `eddyline broker`, `eddyline topics` and `eddyline doctor`."""
    app.command(broker)
    app.command(topics)
    app.command(doctor)


@broker.command
def start(
    *,
    foreground: Annotated[bool, Parameter(help="Stay until Ctrl-C or SIGTERM, then stop the broker.")] = False,
    options: Options = DEFAULTS,
) -> None:
    """Start the embedded broker; it goes on in the background."""
    settings = options.settings()

    from eddyline.stream.broker import EmbeddedBroker  # noqa: PLC0415

    embedded = EmbeddedBroker.of(settings.broker)
    talk(f"starting Kafka in {embedded.folder} (the first time fetches it, 44 MB)")
    if not foreground:
        embedded.start()
        talk(f"Kafka answers at {embedded.bootstrap_servers}; `eddyline broker stop` stops it")
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with embedded:
            talk(f"Kafka answers at {embedded.bootstrap_servers}; Ctrl-C stops it")
            while embedded.pid is not None:
                time.sleep(0.5)
            talk("Kafka has ended by itself; its log says why: " + str(embedded.log_file))
    except KeyboardInterrupt:
        talk("Kafka is stopped")
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@broker.command
def stop(*, options: Options = DEFAULTS) -> None:
    """Stop the embedded broker, whoever started it."""
    settings = options.settings()

    from eddyline.stream.broker import EmbeddedBroker  # noqa: PLC0415

    embedded = EmbeddedBroker.of(settings.broker)
    stopped = embedded.stop()
    talk("Kafka is stopped" if stopped else f"no broker runs in {embedded.folder}")


@broker.command
def status(*, as_json: AsJson = False, options: Options = DEFAULTS) -> int:
    """Tell whether the embedded broker runs and where; exit code 3 if not."""
    settings = options.settings()

    from eddyline.stream.broker import EmbeddedBroker  # noqa: PLC0415

    embedded = EmbeddedBroker.of(settings.broker)
    pid = embedded.pid
    address = embedded.bootstrap_servers if pid is not None else None
    if as_json:
        print_json({"running": pid is not None, "pid": pid, "bootstrap_servers": address})
    elif pid is not None:
        print(f"runs at {address}, process {pid}, data in {embedded.folder}")
    else:
        print(f"no broker runs in {embedded.folder}")
    return 0 if pid is not None else _CHECK_FAILED


@topics.command
def create(*, as_json: AsJson = False, options: Options = DEFAULTS) -> None:
    """Create the topics that are missing; existing ones stay as they are."""
    settings = options.connected()

    from eddyline.stream.topics import create_topics  # noqa: PLC0415

    created = create_topics(settings.kafka, settings.topics)
    if as_json:
        print_json(created)
    else:
        for name in created:
            print(name)
        talk(f"created {len(created)} topics" if created else "all topics exist already")


@topics.command
def check(*, as_json: AsJson = False, options: Options = DEFAULTS) -> int:
    """Check that every topic is there and laid out as it must be; exit code 3 if not."""
    settings = options.connected()

    from eddyline.stream.topics import check_topics  # noqa: PLC0415

    problems = check_topics(settings.kafka, settings.topics)
    if as_json:
        print_json(problems)
    else:
        for problem in problems:
            print(problem)
        if not problems:
            talk("all topics are as they must be")
    return _CHECK_FAILED if problems else 0


def doctor(*, as_json: AsJson = False, options: Options = DEFAULTS) -> int:
    """Check versions, broker, topics, disk and model store; exit code 3 if one fails."""
    settings = options.settings()

    from eddyline.stream.doctor import diagnose  # noqa: PLC0415

    checks = []
    for one in diagnose(settings.kafka, settings.topics, settings.state.folder, settings.model_store.url):
        checks.append(one)
        if not as_json:
            print(f"{'PASS' if one.ok else 'FAIL'}  {one.name}: {one.detail}", flush=True)
            if one.remedy:
                print(f"      → {one.remedy}", flush=True)
    if as_json:
        print_json([asdict(one) for one in checks])
    return 0 if all(one.ok for one in checks) else _CHECK_FAILED
