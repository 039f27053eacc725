"""`eddyline config`: see, check and start a settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from eddyline.state.errors import ConfigurationError
from eddyline.stream.cli.options import DEFAULTS, AsJson, Options
from eddyline.stream.cli.output import print_json, print_table, talk

__all__ = ["register"]

config = App(name="config", help="Show, check or start the settings.")


def register(app: App) -> None:
    """Add `eddyline config`."""
    app.command(config)


@config.command
def view(*, as_json: AsJson = False, options: Options = DEFAULTS) -> None:
    """Show each setting in force and where its value came from; secrets are masked."""
    settings = options.all_settings()

    from eddyline.stream.setting import as_text, leaves  # noqa: PLC0415

    rows = []
    for leaf in leaves(type(settings)):
        value = as_text(leaf.value(settings))
        rows.append((leaf.key, "********" if leaf.secret and value else value, settings.origin(leaf.key)))
    if as_json:
        print_json([{"setting": key, "value": value, "source": source} for key, value, source in rows])
    else:
        print_table(("setting", "value", "source"), rows)


@config.command
def validate(*, options: Options = DEFAULTS) -> None:
    """Check the settings file, the environment and the flags; exit code 2 names what is wrong."""
    options.all_settings()
    talk("the settings are valid")


@config.command
def init(
    path: Annotated[Path, Parameter(help="The file to write.")] = Path("eddyline.toml"),
    /,
    *,
    force: Annotated[bool, Parameter(help="Overwrite an existing file.")] = False,
) -> None:
    """Write a settings file in which every setting is explained and commented out at its default."""
    from eddyline.stream.config_docs import default_toml  # noqa: PLC0415

    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(default_toml())
    except FileExistsError:
        raise ConfigurationError(f"{path} exists: choose another name, or overwrite it with --force") from None
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
    talk(f"wrote {path}")


@config.command
def table(
    *,
    readme: Annotated[
        Path | None, Parameter(help="Rewrite the table between the markers of this file instead.")
    ] = None,
) -> None:
    """Print the table of all settings as Markdown (it stands in the README)."""
    from eddyline.stream.config_docs import settings_table, update_readme  # noqa: PLC0415

    if readme is None:
        print(settings_table())
        return
    try:
        text = readme.read_text(encoding="utf-8")
        readme.write_text(update_readme(text), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot rewrite {readme}: {error.strerror}") from error
    talk(f"rewrote the table in {readme}")
