"""`eddyline state`: what is kept of one user."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from eddyline.state.errors import ConfigurationError, EddylineError
from eddyline.stream.cli.options import DEFAULTS, AsJson, Options
from eddyline.stream.cli.output import print_json, print_table, talk

if TYPE_CHECKING:
    from eddyline.stream.config import Settings

__all__ = ["register"]

_CHECK_FAILED = 3

state = App(name="state", help="What is kept of one user.")


def register(app: App) -> None:
    """Add `eddyline state`."""
    app.command(state)


@state.command
def show(
    user: Annotated[str, Parameter(help="The user's id.")],
    /,
    *,
    as_json: AsJson = False,
    options: Options = DEFAULTS,
) -> int:
    """Show what is kept of a user, as the states topic has it; exit code 3 if there is nothing."""
    settings = options.all_connected()

    from eddyline.state.user_state import decode_states  # noqa: PLC0415
    from eddyline.stream.changelog import read_changelog  # noqa: PLC0415
    from eddyline.stream.topics import Topics  # noqa: PLC0415

    newest: dict[int, bytes | None] = {}
    for partition, key, value in read_changelog(settings.kafka, Topics.of(settings.topics).states):
        if key == user.encode():
            newest[partition] = value
    kept = [value for value in newest.values() if value is not None]
    if not kept:
        talk(f"nothing is kept of user {user}")
        return _CHECK_FAILED
    ids = _item_ids(settings)
    for one in decode_states(settings.engine.shape, kept):
        items = [int(item) for item in one["item"][: one["history_length"]]]
        times = [int(ms) for ms in one["ts_ms"][: one["history_length"]]]
        history = [
            {"item_id": ids.get(item, f"#{item:016x}"), "ts_ms": ms} for item, ms in zip(items, times, strict=True)
        ]
        plain = {
            "partition": int(one["partition"]),
            "offset": int(one["offset"]),
            "clicks": int(one["clicks"]),
            "session_length": int(one["session_length"]),
            "encoder": f"{int(one['encoder']):016x}",
        }
        if as_json:
            print_json({"user_id": user, **plain, "history": history})
            continue
        print_table(("field", "value"), [(name.replace("_", " "), value) for name, value in plain.items()])
        rows = [(_when(ms), click["item_id"]) for ms, click in zip(times, history, strict=True)]
        print_table(("time (UTC)", "item, newest first"), rows[::-1])
    return 0


def _item_ids(settings: Settings) -> dict[int, str]:
    """Item hash → id, as the newest version of the model that can be read knows them."""
    from eddyline.model.checkpoint import ModelStore, unpack_strings  # noqa: PLC0415

    store = ModelStore(settings.model_store)
    for version in reversed(store.versions()):
        try:
            arrays = store.load(version, "counts")
            ids = unpack_strings(arrays["ids.text"], arrays["ids.offsets"])
            return dict(zip(arrays["item.hash"].tolist(), ids, strict=True))
        except (EddylineError, KeyError) as error:
            talk(f"version {version}: {error}")
    return {}


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


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
    waiting = {(by, n) for by in ("worker", "trainer") for n in range(settings.topics.partitions)}
    for receipt in forget_user(settings.kafka, Topics.of(settings.topics), user, timeout_s=timeout_s):
        receipts.append(receipt)
        waiting.discard((receipt.by, receipt.partition))
        if receipt.by == "worker":
            done = f"the worker of partition {receipt.partition} erased {receipt.states} states"
        else:
            kept = f"{receipt.examples} examples and {receipt.clicks} clicks"
            done = f"the trainer, asked by partition {receipt.partition}, erased {kept}"
        if not as_json:
            print(done, flush=True)
    if as_json:
        print_json([msgspec.to_builtins(receipt) for receipt in receipts])
    if not waiting:
        return 0
    absent = sorted(partition for by, partition in waiting if by == "worker")
    missing = [f"the workers of partitions {', '.join(map(str, absent))}"] if absent else []
    missing += ["the trainer"] if any(by == "trainer" for by, _ in waiting) else []
    talk(
        f"{' and '.join(missing)} did not answer within {timeout_s:g} s; "
        "the request stays, and the user is erased when they next run"
    )
    return _CHECK_FAILED
