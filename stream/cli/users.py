"""`eddyline state`: what is kept of one user."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from eddyline.state.errors import ConfigurationError
from eddyline.stream.cli.options import DEFAULTS, AsJson, Options
from eddyline.stream.cli.output import print_json, talk

__all__ = ["register"]

_CHECK_FAILED = 3

state = App(name="state", help="What is kept of one user.")


def register(app: App) -> None:
    """Add `eddyline state`."""
    app.command(state)


@state.command
def forget(
    user: Annotated[str, Parameter(help="The user's id.")],
    /,
    *,
    timeout_s: Annotated[
        float, Parameter(name="--timeout", help="Seconds to wait for the workers and the trainer.")
    ] = 30.0,
    as_json: AsJson = False,
    options: Options = DEFAULTS,
) -> int:
    """Erase a user everywhere and tell what was erased; exit code 3 if not all have answered in time."""
    if not user:
        raise ConfigurationError("state forget: the user's id is empty")
    settings = options.connected()

    import msgspec  # noqa: PLC0415

    from eddyline.stream.erasure import forget_user  # noqa: PLC0415
    from eddyline.stream.topics import Topics  # noqa: PLC0415

    receipts = []
    workers, trainer = set(), False
    for receipt in forget_user(settings.kafka, Topics.of(settings.topics), user, timeout_s=timeout_s):
        receipts.append(receipt)
        if receipt.by == "worker":
            workers.add(receipt.partition)
            done = f"the worker of partition {receipt.partition} erased {receipt.states} states"
        else:
            trainer = True
            done = f"the trainer erased {receipt.examples} examples and {receipt.clicks} clicks"
        if not as_json:
            print(done, flush=True)
    if as_json:
        print_json([msgspec.to_builtins(receipt) for receipt in receipts])
    missing = [] if trainer else ["the trainer"]
    if len(workers) < settings.topics.partitions:
        absent = sorted(set(range(settings.topics.partitions)) - workers)
        missing.insert(0, f"the workers of partitions {', '.join(map(str, absent))}")
    if not missing:
        return 0
    talk(
        f"{' and '.join(missing)} did not answer within {timeout_s:g} s; "
        "the request stays, and the user is erased when they next run"
    )
    return _CHECK_FAILED
