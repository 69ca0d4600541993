"""Names in a pipeline that mean something outside of it: models, data, backends, files.

All are looked up before anything runs, so that a typing error does not show after hours of training.
"""

from __future__ import annotations

from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ...config import near
from ...errors import UsageError
from ...models.suffixes import WEIGHTS
from .kinds import Check, Export, Kind, Profile, Prune, Source, Train, several

if TYPE_CHECKING:
    from ..artifact.manifest import Precision

FILES = (".toml", ".pem", ".txt", *WEIGHTS)


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
        from ..backends.infos import backend_names
        from ..backends.registry import unknown_backend

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


AT_LEAST = {"epochs": 1, "images": 1, "threads": 1, "limit": 1, "steps": 1, "max_drop": 0, "rounds": 10}
SHARES = ("macs", "latency", "sparsity")  # of a whole


def refuse_values(here: str, options: Kind) -> None:
    """Raise UsageError for a value that cannot be, and for keys of which one makes the other pointless.

    Args:
        here: the step's path in the file.
        options: of the step.
    """
    for one in fields(options):
        value = getattr(options, one.name)
        where = f"{here}.{one.name}"
        if value == "" or (isinstance(value, tuple) and "" in value):
            raise UsageError(f"{where} is empty", fix="leave it out, or name something")
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise UsageError(f"{where} has something twice: {', '.join(value)}", fix="name each once")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if one.name in AT_LEAST and value < AT_LEAST[one.name]:
            raise UsageError(f"{where} must be at least {AT_LEAST[one.name]}, got {value}")
        if one.name in SHARES and not 0 < value < 1:
            raise UsageError(f"{where} must be between 0 and 1, got {value}", fix="such as 0.5")
    if isinstance(options, Source | Train) and options.input is not None:
        _sizes(f"{here}.input", options.input, "x", LARGEST_SIDE, (3, 3), "3x224x224")
    if isinstance(options, Check | Profile) and options.batch_sizes is not None:
        _sizes(f"{here}.batch_sizes", options.batch_sizes, ",", LARGEST_BATCH, (1, 99), "1,8")
    if isinstance(options, Export):
        _refuse_export(here, options)
    if isinstance(options, Prune):
        _refuse_prune(here, options)
    if isinstance(options, Check) and not options.latency and options.budget is None:
        for name in ("rounds", "threads", "batch_sizes"):
            if getattr(options, name) is not None:
                raise UsageError(f"{here}.{name} is of the latency, which is not judged", fix="latency = true")
    if isinstance(options, Profile) and options.images is not None and options.data is None:
        raise UsageError(f"{here}.images are of data, and there is none", fix='data = "digits"')


def _refuse_export(here: str, options: Export) -> None:
    precisions, backends = several(options.precision), several(options.to)
    if not precisions:
        raise UsageError(f"{here}.precision is an empty list", fix='precision = ["fp32"]')
    if "int8" not in precisions:
        for name in OF_INT8:
            if getattr(options, name) is not None:
                raise UsageError(f"{here}.{name} is of int8, which is not in `precision`", fix="leave it out")
    for name in options.set:
        backend, dot, own = name.partition(".")
        if not dot or not own or backend not in backends:
            known = f"keys begin with one of {', '.join(backends)}, and a dot"
            raise UsageError(f'{here}.set: "{name}" is of no backend in `to`', fix=known)
    if options.set:
        _refuse_settings(f"{here}.set", options)
    if options.batch is not None:
        found = _sizes(f"{here}.batch", options.batch, ":", None, (1, 3), "1:8:32")
        if len(found) == 2 or list(found) != sorted(found):
            raise UsageError(f"{here}.batch {options.batch} is not SMALLEST:USUAL:LARGEST", fix="such as 1:8:32")


def _refuse_settings(where: str, options: Export) -> None:
    """Raise UsageError for backends' own options that they would refuse for one of the step's artifacts."""
    from ..backends.options import ExportOptions
    from ..backends.registry import get_backend  # brings onnx, which no other step's values need

    for precision, backend in product(several(options.precision), several(options.to)):
        own = {name.partition(".")[2]: value for name, value in options.set.items() if name.startswith(f"{backend}.")}
        try:
            get_backend(backend).own_settings(ExportOptions(cast("Precision", precision), settings={backend: own}))
        except UsageError as error:
            raise UsageError(f"{where}: {error.what}", fix=error.fix) from error


def _refuse_prune(here: str, options: Prune) -> None:
    if options.macs is not None and options.latency is not None:
        raise UsageError(f"{here}: macs and latency contradict each other", fix="leave one out")
    if options.macs is None and options.latency is None and options.pattern is None:
        raise UsageError(f"{here}: nothing says what is to go", fix="macs = 0.5, or latency, or pattern")


def _sizes(where: str, text: str, between: str, most: int | None, count: tuple[int, int], example: str) -> list[int]:
    """Numbers of at least 1 with something between them. Raises UsageError."""
    parts = text.split(between)
    if not count[0] <= len(parts) <= count[1] or not all(
        one.isascii() and one.isdigit() and len(one) < 10 for one in parts
    ):
        raise UsageError(f"{where} {text} cannot be read", fix=f"such as {example}")
    found = [int(one) for one in parts]
    if min(found) < 1 or (most is not None and max(found) > most):
        limit = "at least 1" if most is None else f"1 to {most}"
        raise UsageError(f"{where}: numbers are {limit}, got {text}", fix=f"such as {example}")
    return found


LARGEST_BATCH, LARGEST_SIDE = 4096, 8192
OF_INT8 = ("images", "max_drop")
