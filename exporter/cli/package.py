"""`zoo package`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ...errors import UsageError
from .main import Debug, Json, Outcome

LAYOUTS = ("zoo", "triton", "mlflow")


def package(
    artifacts: Annotated[list[Path], typer.Argument(metavar="ARTIFACT...", help="Folders that zoo export wrote.")],
    out: Annotated[Path | None, typer.Option(help="The file; without it MODEL.zoo.")] = None,
    layout: Annotated[
        str, typer.Option(help="zoo: one file; triton: a model repository; mlflow: a model of MLflow's.")
    ] = "zoo",
    licence: Annotated[Path | None, typer.Option(help="Text file with the licence of the weights.")] = None,
    require_checked: Annotated[
        bool, typer.Option("--require-checked", help="Refuse artifacts that zoo check has not passed.")
    ] = False,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign it with an elliptic-curve private key in PEM.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the package in --out.")] = False,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Write one file that runs, verifies and times a model on a machine without torch; with its evidence."""
    del debug, json
    from ...config import near
    from ..artifact.folder import BESIDE, load_artifact
    from ..checks.evidence import evidence_of, refuse_unchecked
    from ..checks.record import not_passed
    from ..package.pack import pack, place_of
    from ..package.signing import read_key, refuse_signature_place, refuse_stale_signature
    from ..package.signing import sign as sign_package
    from ..report.console import notes, say, waiting

    artifacts = [one for one in artifacts if not one.name.endswith(BESIDE)]  # `exports/resnet18/*` has them
    if not artifacts:
        raise UsageError("only evidence of checks is given, and no artifact", fix="give the artifacts' folders")
    if layout not in LAYOUTS:
        raise UsageError(f'no layout "{layout}"{near(layout, LAYOUTS)}', fix=f"one of {', '.join(LAYOUTS)}")
    if layout != "zoo":
        if sign is not None or licence is not None or overwrite:
            raise UsageError("--sign, --licence and --overwrite go with --layout zoo only", fix="leave them out")
        evidence = {str(folder): evidence_of(load_artifact(folder)) for folder in artifacts}
        if require_checked:
            refuse_unchecked(evidence)
        failed = {name: doubts for name, one in evidence.items() if (doubts := not_passed(one.verdicts))}
        with waiting("writing the model's folder"):
            made = _triton(artifacts, out or Path("models")) if layout == "triton" else _mlflow(artifacts, out)
        return _with_failed(made, failed)
    if sign is not None:
        read_key(sign, private=True)
        refuse_signature_place(place_of(artifacts, out), overwrite=overwrite)
    else:
        refuse_stale_signature(place_of(artifacts, out))
    with waiting("packing, and verifying what was packed"):
        made = pack(artifacts, out, licence=licence, require_checked=require_checked, overwrite=overwrite)
        signature = None if sign is None else sign_package(made.path, sign)
    remarks = [f"{name}: {reason}" for name, reason in made.unchecked.items()]
    passed = [name for name in made.checked if name not in made.failed]

    def show() -> None:
        say(f"{made.path}: {made.bytes / 1e6:.1f} MB, {'replaced' if made.replaced else 'written'}", "bold")
        if passed:
            say(f"passed their check, with the evidence: {', '.join(passed)}")
        if signature is not None:
            say(f"signed: {signature}")
        notes(remarks)

    payload = {
        "package": str(made.path), "bytes": made.bytes, "checked": list(made.checked), "notes": remarks,
        "signature": None if signature is None else str(signature),
    }  # fmt: skip
    after = f"zoo verify {shlex.quote(str(made.path))}{' --key PUBLIC_KEY' if sign else ''}"
    return _with_failed(Outcome(payload, show=show, next=after), made.failed)


def _with_failed(outcome: Outcome, failed: Mapping[str, str]) -> Outcome:
    """Return the outcome that also says which artifacts did not pass their check."""

    def show() -> None:
        from ..report.console import COLOURS, say

        outcome.show()
        for name, doubts in failed.items():
            say(f"{name} DID NOT PASS its check, and is packaged all the same: {doubts}", COLOURS["fail"])
        if failed:
            say("--require-checked refuses such artifacts", COLOURS["fail"])

    return replace(outcome, payload={**outcome.payload, "failed": dict(failed)}, show=show)


def _triton(artifacts: list[Path], out: Path) -> Outcome:
    from ..package.layouts.triton import write_repository
    from ..report.console import say

    names = write_repository(artifacts, out)

    def show() -> None:
        say(f"{out}: {', '.join(names)}; logits of prepared images, as the parameter zoo.spec says", "bold")

    return Outcome(
        {"repository": str(out), "models": names}, show=show, next=f"tritonserver --model-repository={out.absolute()}"
    )


def _mlflow(artifacts: list[Path], out: Path | None) -> Outcome:
    from ..package.layouts.mlflow import write_model
    from ..report.console import say

    folder = out or Path("mlflow-model")
    name = write_model(artifacts, folder)
    return Outcome(
        {"model": str(folder), "package": name},
        show=lambda: say(f"{folder}: {name}, image files' bytes in, labels and probabilities out", "bold"),
        next=f"mlflow models serve -m {folder} --env-manager local",
    )
