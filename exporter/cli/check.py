"""`zoo check`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ... import atomic
from ...errors import DONE, GATE, INCONCLUSIVE, UNAVAILABLE, USAGE, UsageError, quoted, worst
from .main import DataRoot, Debug, Device, Json, Outcome, Seed, choose_device, need_torch
from .source_options import Input, Labels, Spec, source_options

if TYPE_CHECKING:
    from ..checks.measure_latency import LatencyOptions
    from ..checks.run import Checked

JUNIT_MARK = b'<testsuites name="zoo check"'  # of our files


def check(
    artifacts: Annotated[list[Path], typer.Argument(help="Folders that `zoo export` wrote.")],
    data: Annotated[str | None, typer.Option(help="Labelled data; else only the golden images are compared.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Compare with this source, not with the artifact's own.")
    ] = None,
    input_: Input = None,
    spec: Spec = None,
    labels: Labels = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first N images.")] = None,
    budget: Annotated[Path | None, typer.Option(help="TOML file with limits by backend and precision.")] = None,
    latency: Annotated[bool, typer.Option("--latency", help="Judge the latency too: about a minute each.")] = False,
    against: Annotated[
        str | None, typer.Option(help="What the latency is compared with: eager, or an artifact's folder.")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=10, max=1000, help="Rounds of the latency measurement, each in fresh processes.", show_default="12"
        ),
    ] = None,
    batch_sizes: Annotated[str, typer.Option(help="Batch sizes to measure the throughput at, such as 1,8,32.")] = "",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of the latency; without it all it may use.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="The --json result of an earlier check: what got worse fails.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as one HTML file.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write the verdicts as JUnit XML.")] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Judge artifacts against their reference, gate by gate, with the evidence; a gate that cannot tell says so."""
    del debug, json
    need_torch("zoo check")
    if limit is not None and data is None:
        raise UsageError("--limit: only with --data", fix="give --data")
    of_reference = {"--input": input_, "--spec": spec, "--labels": labels}
    if reference is None and (pointless := [flag for flag, value in of_reference.items() if value is not None]):
        raise UsageError(
            f"{', '.join(pointless)} describe the source in --reference, which is missing",
            fix="give --reference SOURCE, or leave them out: an artifact brings its own",
        )
    _refuse_places(html, junit, artifacts)
    from ..report.console import COLOURS, notes, progress, say, table, waiting

    with waiting("loading torch and the data"):
        from ...models.data.catalog import open_data
        from ...models.sources import resolve
        from ..artifact.folder import BESIDE
        from ..checks import evidence
        from ..checks.budget import Budget, read_budget
        from ..checks.regression import read_baseline
        from ..checks.run import check as check_artifacts
        from ..report.result import as_result, pictures_of
        from ..report.rows import data_of, problems, read_rows, standing

        limits = read_budget(budget) if budget else Budget()
        before = read_baseline(baseline) if baseline else None
        asked = {"against": against, "rounds": rounds, "batch_sizes": batch_sizes or None, "threads": threads}
        timed = _latency_options(latency or limits.latency, asked, seed)
        where = choose_device(device)
        dataset = open_data(data, data_root) if data else None
        options = source_options(input_=input_, spec=spec, labels=labels, seed=seed)
        module = resolve(reference, options).module if reference else None
    given = [path for path in artifacts if not path.name.endswith(BESIDE)] or artifacts
    folders = list({path.absolute(): path for path in given}.values())  # one that is named twice is checked once
    with progress("images", "opening the artifacts") as bar:
        rows = check_artifacts(
            folders, dataset, reference=module, device=where, limit=limit, budget=limits, latency=timed, progress=bar
        )
    images = min(limit or sys.maxsize, len(dataset.val)) if dataset else 0
    if before is not None:
        judged = {"name": dataset.name, "images": images} if dataset else None
        rows = evidence.with_regression(rows, before, judged, limits)
    code = worst(row.exit_code for row in rows)
    if before is not None and not any((gate := row.gate("regression")) and gate.verdict != "skipped" for row in rows):
        code = worst([code, INCONCLUSIVE])  # it was asked for, and nothing could be compared
    result = as_result(rows, dataset, images, shlex.join(["zoo", *sys.argv[1:]]), code)
    told = evidence.write_evidence(result, rows)
    pictures = pictures_of(rows, dataset) if html else {}
    unwritten = _write(result, pictures, html, junit)
    code = worst([code, USAGE]) if unwritten else code
    result = {**result, "ok": code == DONE, "exit_code": code, "notes": [*result.get("notes", ()), *told, *unwritten]}

    def show() -> None:
        for row in rows:
            if row.error is not None:
                word = "unavailable" if row.error.exit_code == UNAVAILABLE else "error"
                say(f"{row.artifact}: {word}: {row.error}", COLOURS[word])
            else:
                table(_title(row), ["gate", "verdict"], [[gate.name, f"{gate.verdict}: {gate.reason}"]
                      for gate in row.gates])  # fmt: skip
        written = [f"written: {path}" for path in (html, junit) if path and path.exists()] if not unwritten else []
        notes([*(dataset.notes if dataset else ()), *told, *unwritten, *written])
        verdict, sentence, rest = standing(result, read_rows(result))
        say(f"{sentence}{f' ({rest})' if rest else ''}", COLOURS[verdict])

    first = next((row.artifact for row in rows if row.error is None), "ARTIFACT")
    found = [problem.fix for problem in problems(read_rows(result), data_of(result)) if problem.what and problem.fix]
    doubt = found[0] if found else ""
    after = {DONE: f"zoo predict {quoted(first)} IMAGE", UNAVAILABLE: _after(rows), GATE: doubt, INCONCLUSIVE: doubt}
    return Outcome(result, code, show, after.get(code, ""))


def _latency_options(wanted: bool, asked: Mapping[str, Any], seed: int) -> LatencyOptions | None:
    """How latency is measured; None where it is not, which then is an error if something was asked of it."""
    from ..checks.measure_latency import LatencyOptions

    given = {name: value for name, value in asked.items() if value is not None}
    if not wanted:
        if given:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(f"{flags}: only with --latency", fix="add --latency")
        return None
    if "batch_sizes" in given:
        sizes = [part.strip() for part in given["batch_sizes"].split(",")]
        if not all(part.isascii() and part.isdigit() and len(part) < 7 for part in sizes):
            raise UsageError(
                f"--batch-sizes {given['batch_sizes']} are not batch sizes", fix="for example --batch-sizes 1,8,32"
            )
        given["batch_sizes"] = tuple(dict.fromkeys(map(int, sizes)))
    return LatencyOptions(**given, seed=seed)


def _refuse_places(html: Path | None, junit: Path | None, artifacts: Sequence[Path]) -> None:
    """Raise now, not after the check, where a report cannot be written, or would replace or break something else."""
    from ..report.output_path import page_mark, refuse_place

    if html is not None and junit is not None and html.resolve() == junit.resolve():
        raise UsageError(f"--html and --junit are both {html}", fix="give two files")
    for path, mark in ((html, page_mark("zoo check")), (junit, JUNIT_MARK)):
        if path is not None:
            refuse_place(path, mark, artifacts)


def _write(
    result: Mapping[str, Any], pictures: Mapping[int, bytes], html: Path | None, junit: Path | None
) -> list[str]:
    """Write the reports; what could not be written, for the check itself is not to be lost by it."""
    failed: list[str] = []
    for path, made in ((html, lambda: _page(result, pictures)), (junit, lambda: _xml(result))):
        try:
            if path is not None:
                atomic.write_file(path, made().encode())
        except OSError as error:
            failed.append(f"{path} could not be written: {error.strerror or error}")
    return failed


def _page(result: Mapping[str, Any], pictures: Mapping[int, bytes]) -> str:
    from ..report.page import render_page

    return render_page(result, pictures)


def _xml(result: Mapping[str, Any]) -> str:
    from ..report.junit import junit_xml

    return junit_xml(result)


def _title(row: Checked) -> str:
    """Return the artifact, and what ran."""
    from ..report.console import ran_as

    return f"{row.artifact}: {ran_as(row.receipt)}" if row.receipt else row.artifact


def _after(rows: Sequence[Checked]) -> str:
    """What to do when something was not available: the row's own way out, if it has one."""
    from ..backends.infos import backend_names
    from ..backends.options import Unavailable
    from ..backends.registry import get_backend

    lacking = [row for row in rows if row.error is not None and row.error.exit_code == UNAVAILABLE]
    fixes = [row.error.fix for row in lacking if row.error is not None and row.error.fix.startswith("zoo ")]
    if fixes:
        return fixes[0]
    known = [row.backend for row in lacking if row.backend in backend_names()]
    if not known or any(isinstance(get_backend(name).available(), Unavailable) for name in known):
        return "zoo doctor"  # it shows what is missing of a backend, not what a present one cannot run
    named, judged = ", ".join(row.artifact for row in lacking), sum(row.error is None for row in rows)
    rest = f"; the other {judged} {'is' if judged == 1 else 'are'} judged" if judged else ""
    return f"judge {named} on a machine that runs {'it' if len(lacking) == 1 else 'them'}{rest}"
