"""`zoo verify`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import worst
from .main import Debug, Json, Outcome

if TYPE_CHECKING:
    from ..checks.gate import Gate


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
    from ..checks.record import not_passed
    from ..package.foreign import Allowed, verify_foreign
    from ..report.console import COLOURS, say, table, waiting
    from ..runtime.container import Package

    with waiting("verifying"), ExitStack() as stack:
        copy = None if key is None else stack.enter_context(private_copy(package))  # what is signed is what is opened
        signature = judge_signature(package, key, copy)
        opened = stack.enter_context(Package(package, None if copy is None else copy.open("rb")))
        found = verify_foreign(opened, artifact, Allowed(allow_code or key is not None, time_limit, memory_limit))
        name = str(opened.manifest["name"])
        held = [one for one in opened.manifest["artifacts"] if artifact in (None, one["name"])]
    failed = {one["name"]: doubts for one in held if (doubts := not_passed(one.get("verdicts") or {}))}
    gates = [signature, *(_by_its_signer(gate) if key is not None else gate for gate in found.gates)]
    code = worst(gate.exit_code for gate in gates)

    def show() -> None:
        table(f"{package}: {name}", ["gate", "verdict", "reason"], [[one.name, one.verdict, one.reason]
              for one in gates])  # fmt: skip
        if found.skews:
            rows = [[one.mistake, f"{one.agreement:.0%}", f"{one.distance:.3f}"] for one in found.skews]
            table(
                "what a mistake in the preprocessing would give on its samples",
                ["mistake", "same answer", "logits away from the right ones"], rows,
            )  # fmt: skip

        for each, doubts in failed.items():
            say(f"{each} DID NOT PASS its check before it was packaged: {doubts}", COLOURS["fail"])
        worst_verdict = next((one for one in ("fail", "inconclusive") if any(g.verdict == one for g in gates)), "pass")
        say(summary(gates), COLOURS[worst_verdict])

    payload = {
        "gates": [one.as_mapping() for one in gates],
        "skews": [one.as_mapping() for one in found.skews],
        "failed": failed,
    }
    return Outcome(payload, code, show=show, next=next_of(package, gates, keyed=key is not None))


@contextmanager
def private_copy(package: Path) -> Iterator[Path]:
    """Yield a copy of a package that nobody else can change, gone afterwards; TMPDIR says where.

    Raises:
        UsageError: no such file, or no room for it.
    """
    import shutil

    from ...errors import UsageError, unwritable
    from ..checks.private import private_folder

    if not package.is_file():
        raise UsageError(f"{package}: no such file", fix="`zoo package` makes one")
    with private_folder() as folder:
        try:
            copy = Path(shutil.copyfile(package, folder / "package"))
        except OSError as error:
            raise unwritable(error, str(folder)) from error
        yield copy


def judge_signature(package: Path, key: Path | None, copy: Path | None = None) -> Gate:
    """Judge the signature beside a package; without a key nobody's word is asked.

    Raises:
        UsageError, IntegrityError, UnavailableError: as `signing.verify_signature`.
    """
    from ..checks.gate import Gate
    from ..package.signing import signature_path, verify_signature

    if key is not None:
        return Gate("signature", "pass", verify_signature(package, key, copy))
    place = signature_path(package)
    if place.is_file():
        return Gate("signature", "skipped", f"{place.name} lies beside it, but no --key was given to check it with")
    return Gate("signature", "skipped", "it is not signed: nothing says who made it")


def _by_its_signer(gate: Gate) -> Gate:
    """The gate `code` where it cannot tell, of a package that somebody trusted signed: it is that one's code."""
    if gate.name != "code" or gate.verdict != "inconclusive":
        return gate
    return replace(gate, verdict="skipped", reason=f"{gate.reason}, but for who signed it")


def summary(gates: Sequence[Gate]) -> str:
    """Return what was found in one line, the worst first."""
    words = {"fail": "Failed", "inconclusive": "Not proved", "pass": "Proved"}
    by = {verdict: [gate.name for gate in gates if gate.verdict == verdict] for verdict in (*words, "skipped")}
    worst_verdict = next(verdict for verdict in words if by[verdict])
    told = f"{words[worst_verdict]}: {', '.join(by[worst_verdict])}"
    if worst_verdict == "pass":
        several = "" if len(by["pass"]) == 1 else "s"
        told = f"Proved: {len(by['pass'])} gate{several} passed, none failed"
    return told + (f"; not looked at: {', '.join(by['skipped'])}" if by["skipped"] else "")


def next_of(package: Path, gates: Sequence[Gate], *, keyed: bool) -> str:
    """Return what to do next: nothing is recommended of a package that did not prove itself.

    Args:
        package: its file.
        gates: of all that was looked at.
        keyed: whether its signature was checked.
    """
    from ..package.signing import signature_path

    verdicts = {gate.name: gate.verdict for gate in gates}
    if "fail" in verdicts.values():
        return "do not use this package; get it again from who made it"
    name = shlex.quote(str(package))
    if verdicts.get("code") != "pass" and not keyed:
        return f"do not run this package with Python before you know who made it: zoo verify {name} --key PUBLIC_KEY"
    if signature_path(package).is_file() and not keyed:
        return f"zoo verify {name} --key PUBLIC_KEY, which says who made it"
    if verdicts.get("samples") == "inconclusive":
        return f"zoo verify {name} --allow-code, if you trust who made it, or on a machine that has its runtime"
    return f"python {name} predict IMAGE.jpg"
