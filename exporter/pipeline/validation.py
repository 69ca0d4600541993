"""Names in a pipeline that mean something outside of it: models, data, backends, files.

All are looked up before anything runs, so that a typing error does not show after hours of training.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from ...config import near
from ...errors import UsageError
from .kinds import Export, Kind, Profile, Source, Train, several

FILES = (".toml", ".pem", ".safetensors", ".pth", ".pt", ".txt")


def refuse_unknown(here: str, options: Kind, folder: Path) -> None:
    """Raise UsageError for a name that nothing has.

    Args:
        here: the step's path in the file.
        options: of the step.
        folder: that files are relative to.
    """
    if isinstance(options, Source | Train):
        for source in several(options.source):
            refuse_source(f"{here}.source", source, folder)
    data = getattr(options, "data", None)
    if data is not None:
        refuse_data(f"{here}.data", data, folder)
    if isinstance(options, Export):
        from ..backends.registry import backend_names, unknown_backend

        for name in several(options.to):
            if name not in backend_names():
                raise unknown_backend(name, f"{here}.to: ")
    for one in fields(options):
        value = getattr(options, one.name)
        if not one.metadata["file"] or not isinstance(value, str) or one.name == "data":
            continue
        if isinstance(options, Profile) and not value.endswith(".toml"):
            continue
        listed = one.name == "labels" and "," in value  # names, not a file of names
        named = value.endswith(FILES) or "/" in value or one.name in ("licence", "sign", "budget", "spec")
        if named and not listed and not (folder / value).exists():
            raise UsageError(
                f"{here}.{one.name}: no such file, {value}", fix=f"it is looked for in {folder.absolute()}"
            )
    if isinstance(options, Profile):
        from ..device.target import places

        places(str(folder / options.on) if options.on.endswith(".toml") else options.on)


def refuse_source(here: str, source: str, folder: Path) -> None:
    """Raise UsageError for what is neither a model of zoo's, nor a folder, nor names another library's or a module."""
    from ...models.registry import MODELS

    if ":" in source or source in MODELS or (folder / source).is_dir():
        return
    raise UsageError(f'{here}: no model "{source}"{near(source, MODELS)}', fix="zoo list models; or a run's folder")


def refuse_data(here: str, data: str, folder: Path) -> None:
    """Raise UsageError for what is neither a named data set nor a folder."""
    from ...models.data.catalog import DATA

    if data in DATA or (folder / data).is_dir():
        return
    raise UsageError(f'{here}: no data set and no folder "{data}"{near(data, DATA)}',
                     fix=f"a folder, or one of {', '.join(DATA)}")  # fmt: skip
