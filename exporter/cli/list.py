"""`zoo list`: models, backends, data, recipes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from .main import Debug, Device, Json, Outcome, Seed

What = Literal["models", "backends", "data", "recipes"]


def list_(
    what: Annotated[What | None, typer.Argument(help="What to list; without it everything.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Show the models, backends, data sets and recipes that zoo knows."""
    del device, seed, debug, json
    makers = {"models": _models, "backends": _backends, "data": _data, "recipes": _recipes}
    payload = {name: make() for name, make in makers.items() if what in (None, name)}

    def show() -> None:
        from ..report.console import table

        for name, rows in payload.items():
            columns = list(rows[0])
            table(name, columns, [[str(row[column]) for column in columns] for row in rows])

    return Outcome(payload, show=show, next="zoo train resnet18 --data digits")


def _models() -> list[dict[str, Any]]:
    from ...models.registry import MODELS

    return [
        {"name": name, "family": family.title, "input": family.variants[name], "paper": family.paper}
        for name, family in MODELS.items()
    ]


def _backends() -> list[dict[str, Any]]:
    from ..backends.infos import BACKENDS, backend_infos

    return [
        {"name": info.name, "what": info.title or "from another package", "built in": info.name in BACKENDS}
        for info in backend_infos()
    ]


def _data() -> list[dict[str, Any]]:
    titles = {
        "digits": ("1,797 grey digits of 8x8", 10, "always, with scikit-learn"),
        "fashion-mnist": ("70,000 grey clothes of 28x28", 10, "apt install dataset-fashion-mnist, or --data-root"),
        "cifar10": ("60,000 photographs of 32x32", 10, "--data-root FOLDER"),
        "cifar100": ("60,000 photographs of 32x32", 100, "--data-root FOLDER"),
        "FOLDER": ("train/CLASS/*.jpg and val/CLASS/*.jpg", "any", "your own"),
    }
    return [{"name": name, "what": what, "classes": n, "from": how} for name, (what, n, how) in titles.items()]


def _recipes() -> list[dict[str, Any]]:
    import tomllib
    from pathlib import Path

    folder = Path(__file__).parents[2] / "models" / "recipes"
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.toml")):
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
        first = text.splitlines()[0].removeprefix("# ").split(". ")[0].split(": the")[0]
        rows.append({"name": path.stem, **{key: values[key] for key in ("epochs", "batch_size", "lr")}, "for": first})
    return rows
