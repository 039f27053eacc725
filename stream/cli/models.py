"""`eddyline model`: the versions in the model store, and which of them is in use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from eddyline.state.errors import CorruptModel, EddylineError
from eddyline.stream.cli.options import DEFAULTS, AsJson, Options
from eddyline.stream.cli.output import print_json, print_table, talk

if TYPE_CHECKING:
    from eddyline.model.checkpoint import Manifest, ModelStore
    from eddyline.stream.client_config import ClientSettings
    from eddyline.stream.models import Rows

__all__ = ["register"]

model = App(name="model", help="Show the model's versions, or take another one into use.")

_PROBE_S = 2.0


def register(app: App) -> None:
    """Add `eddyline model`."""
    app.command(model)


@model.command(name="list")
def list_versions(*, as_json: AsJson = False, options: Options = DEFAULTS) -> None:
    """List the versions in the model store, and which is in use."""
    settings = options.settings()

    from eddyline.model.checkpoint import ModelStore  # noqa: PLC0415

    store = ModelStore(settings.model_store)
    manifests: list[Manifest] = []
    for version in store.versions():
        try:
            manifests.append(store.manifest(version))
        except CorruptModel as error:
            talk(f"version {version}: {error}")
    used = _in_use_if_known(settings)
    if as_json:
        print_json([_plain(manifest) | {"in_use": manifest.version == used} for manifest in manifests])
        return
    rows = [
        (
            manifest.version,
            "in use" if manifest.version == used else "",
            manifest.cause,
            _when(manifest.created_ms),
            manifest.parent or "",
            f"{manifest.items:,}",
            f"{manifest.examples:,}",
            _metrics(manifest),
        )
        for manifest in manifests
    ]
    if rows:
        print_table(("version", "", "cause", "created (UTC)", "parent", "items", "examples", "metrics"), rows)
    talk(f"{len(rows)} versions in {settings.model_store.url}")


@model.command
def show(
    version: Annotated[int | None, Parameter(help="The version; else the one in use.")] = None,
    /,
    *,
    as_json: AsJson = False,
    options: Options = DEFAULTS,
) -> None:
    """Show a version and check its files against their checksums."""
    settings = options.settings() if version is not None else options.connected()

    from eddyline.model.checkpoint import ModelStore  # noqa: PLC0415

    store = ModelStore(settings.model_store)
    manifest = store.manifest(_in_use(settings).version if version is None else version)
    for part in manifest.files:
        store.load(manifest.version, part, manifest)
    if as_json:
        print_json(_plain(manifest))
        return
    rows = [(name, value) for name, value in _plain(manifest).items() if name not in ("metrics", "files")]
    rows += [(f"metric {name}", f"{value:.4f}") for name, value in manifest.metrics.items()]
    rows += [(f"file {part}", f"{file.bytes:,} bytes, intact") for part, file in manifest.files.items()]
    print_table(("field", "value"), rows)


@model.command
def promote(
    version: Annotated[int, Parameter(help="The version to take into use.")],
    /,
    *,
    as_json: AsJson = False,
    options: Options = DEFAULTS,
) -> None:
    """Take a version of the model store into use everywhere, once its files prove intact."""
    _announce(options.connected(), version, "promote", as_json=as_json)


@model.command
def rollback(*, as_json: AsJson = False, options: Options = DEFAULTS) -> None:
    """Take the version into use again that the one in use was trained from, or the newest kept one before that."""
    settings = options.connected()

    from eddyline.model.checkpoint import ModelStore  # noqa: PLC0415

    used = _in_use(settings)
    before = [version for version in ModelStore(settings.model_store).versions() if version <= used.parent]
    if not before:
        raise EddylineError(
            f"version {used.version} was trained from "
            f"{f'version {used.parent}, which is not kept any more' if used.parent else 'no other'}: "
            "`eddyline model list` shows what there is, `eddyline model promote VERSION` takes one into use"
        )
    _announce(settings, before[-1], "rollback", as_json=as_json)


def _announce(settings: ClientSettings, version: int, cause: Literal["promote", "rollback"], *, as_json: bool) -> None:
    import msgspec  # noqa: PLC0415

    from eddyline.model.checkpoint import ModelStore  # noqa: PLC0415
    from eddyline.stream.models import announce, evidence_span, load_model  # noqa: PLC0415
    from eddyline.stream.topics import Topics  # noqa: PLC0415

    store, names = ModelStore(settings.model_store), Topics.of(settings.topics)
    manifest = msgspec.structs.replace(store.manifest(version), cause=cause)
    used = _announced(settings)
    # Every worker would refuse a broken version, or one of other evidence.
    beside, dimension = (None, None) if used is None else _fitting(store, used)
    load_model(store, manifest, dimension, beside)
    oldest, end = evidence_span(settings.kafka, names)
    if manifest.evidence_offset < oldest:
        raise EddylineError(
            f"version {version} has counts up to offset {manifest.evidence_offset} of {names.evidence}, which is kept "
            f"from {oldest} on: no worker could start with it; promote a newer version, and keep evidence longer "
            "(topics.evidence_retention_days) than versions you may go back to"
        )
    if used is None and not manifest.evidence_offset and end:
        raise EddylineError(
            f"version {version} was made before its stream's first click, and {names.clicks} has had clicks without "
            "it: use it with a new topics.prefix, or promote a version of this stream"
        )
    announce(settings.kafka, names, manifest)
    if as_json:
        print_json(_plain(manifest))
    talk(f"version {version} is announced; workers take it into use between two micro-batches")


def _fitting(store: ModelStore, used: Manifest) -> tuple[Rows | None, int | None]:
    """The item rows and the dimension of the version in use; None if its files are broken: then another is wanted."""
    from eddyline.stream.models import Rows  # noqa: PLC0415

    try:
        arrays = store.load(used.version, "weights", used)
    except CorruptModel:
        return None, None
    return Rows.of(used, arrays), arrays["items.vector"].shape[1]


def _announced(settings: ClientSettings) -> Manifest | None:
    """The manifest announced last, None before the first."""
    import asyncio  # noqa: PLC0415

    from eddyline.stream.follow import Follower  # noqa: PLC0415
    from eddyline.stream.models import announced  # noqa: PLC0415
    from eddyline.stream.topics import Topics  # noqa: PLC0415

    topic = Topics.of(settings.topics).models

    async def read() -> Manifest | None:
        follower = Follower(settings.kafka, topic)
        try:
            await follower.start()
            return await announced(follower, settings.model_store.name)
        finally:
            await follower.stop()

    return asyncio.run(read())


def _in_use(settings: ClientSettings) -> Manifest:
    """The manifest announced last.

    Raises:
        EddylineError: none was announced.
    """
    manifest = _announced(settings)
    if manifest is None:
        raise EddylineError(
            f"no version of model `{settings.model_store.name}` was announced yet: "
            "`eddyline model promote VERSION` announces one"
        )
    return manifest


def _in_use_if_known(settings: ClientSettings) -> int | None:
    from eddyline.stream.kafka import probe  # noqa: PLC0415

    problem = probe(settings.kafka, _PROBE_S)
    if problem is not None:
        talk(f"which version is in use is not known: {problem.text}")
        return None
    try:
        return _in_use(settings).version
    except EddylineError as error:
        talk(str(error))
        return None


def _plain(manifest: Manifest) -> dict[str, object]:
    import msgspec  # noqa: PLC0415

    plain: dict[str, object] = msgspec.to_builtins(manifest)
    return plain


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _metrics(manifest: Manifest) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in manifest.metrics.items())
