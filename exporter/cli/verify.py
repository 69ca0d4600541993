"""`zoo verify`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ...errors import worst
from .shell import Debug, Json, Outcome


def verify(
    package: Annotated[Path, typer.Argument(metavar="PACKAGE", help="A file that zoo package wrote.")],
    artifact: Annotated[str | None, typer.Option(help="Verify only this artifact of the package.")] = None,
    key: Annotated[Path | None, typer.Option(help="Public key in PEM that must fit its signature.")] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Open artifacts that are programs (TorchScript) without --key, too.")
    ] = False,
    time_limit: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="For all of it; without it what suits the package's size.")
    ] = None,
    memory_limit: Annotated[
        int | None, typer.Option(metavar="MB", help="For all of it; without it what suits the package's size.")
    ] = None,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Prove a package: its structure, hashes, and samples on this machine; and show what mistakes would give."""
    del debug, json
    from dataclasses import asdict

    from ..checks.gate import Gate
    from ..package.container import Package
    from ..package.foreign import Allowed, verify_foreign
    from ..package.signing import signature_path, verify_signature
    from ..package.verify import not_passed
    from ..report.console import COLOURS, say, table, waiting

    gates: list[Gate] = []
    with waiting("verifying"), Package(package) as opened:
        if key is not None:
            gates.append(Gate("signature", "pass", verify_signature(package, key)))
            opened.refuse_other()  # what was signed is what is open, or the signature says nothing of it
        elif signature_path(package).is_file():
            gates.append(
                Gate("signature", "skipped", "it is signed, but no --key was given to check the signature with")
            )
        found = verify_foreign(opened, artifact, Allowed(allow_code or key is not None, time_limit, memory_limit))
        name = str(opened.manifest["name"])
        held = [one for one in opened.manifest["artifacts"] if artifact in (None, one["name"])]
    failed = {one["name"]: doubts for one in held if (doubts := not_passed(one.get("verdicts") or {}))}
    gates += found.gates
    code = worst(gate.exit_code for gate in gates)

    def show() -> None:
        table(f"{package}: {name}", ["gate", "verdict", "reason"], [[one.name, one.verdict, one.reason]
              for one in gates])  # fmt: skip
        if found.skews:
            rows = [[one.mistake, f"{one.agreement:.0%}", f"{one.distance:.3f}"] for one in found.skews]
            table(
                "what a mistake in the preprocessing would give on its samples",
                ["mistake", "same answer", "distance of the logits"], rows,
            )  # fmt: skip

        for each, doubts in failed.items():
            say(f"{each} DID NOT PASS its check before it was packaged: {doubts}", COLOURS["fail"])

    payload = {
        "gates": [one.as_mapping() for one in gates],
        "skews": [asdict(one) for one in found.skews],
        "failed": failed,
    }
    return Outcome(payload, code, show=show, next=f"python {shlex.quote(str(package))} predict IMAGE.jpg")
