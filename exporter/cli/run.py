"""`zoo run`."""

from __future__ import annotations

import importlib.util
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import DONE, INCONCLUSIVE, UnavailableError, UsageError
from .main import Debug, Json, Outcome

if TYPE_CHECKING:
    from ..pipeline.config import Pipeline
    from ..pipeline.scheduler import Run

LOCAL = "local"


def run(
    file: Annotated[Path, typer.Argument(metavar="PIPELINE.toml", help="See docs/pipeline.md.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done, and what is lacking.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Only show what is done.")] = False,
    clean: Annotated[bool, typer.Option("--clean", help="Remove what the pipeline has written.")] = False,
    on: Annotated[
        str, typer.Option(metavar="WHERE", help="local, ray for a local Ray cluster, or ray://HOST:PORT.")
    ] = LOCAL,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Run a pipeline from one file: train, prune, export, check, package, profile; what is done stays done."""
    del debug, json
    asked = [name for name, given in (("dry-run", dry_run), ("status", status), ("clean", clean)) if given]
    if len(asked) > 1:
        raise UsageError(f"--{' and --'.join(asked)} contradict each other", fix="give one")
    if clean and on != LOCAL:
        raise UsageError("--clean and --on contradict each other", fix="leave --on out")
    from ..pipeline.config import read_pipeline

    with _where(on, read_pipeline(file)) as engine:
        if clean:
            return _clean(engine)
        if dry_run or status:
            return _look(engine, planning=dry_run)
        return _run(engine, file, "" if on == LOCAL else f" --on {on}")


@contextmanager
def _where(on: str, pipeline: Pipeline) -> Iterator[Run]:
    """The pipeline, to be run on this machine or on a Ray cluster, while the block lasts."""
    if on == LOCAL:
        from ..pipeline.scheduler import prepare

        yield prepare(pipeline)
        return
    if on != "ray" and not on.startswith("ray://"):
        raise UsageError(f"--on {on} is not a place where a pipeline can run", fix="local, ray, or ray://HOST:PORT")
    for name in ("ray", "fsspec"):
        if importlib.util.find_spec(name) is None:
            raise UnavailableError(f"{name} is not installed here", fix='pip install "zoo-export[ray]"')
    from ..pipeline.cluster.ray import connected

    with connected(on, pipeline) as engine:
        yield engine


def _clean(engine: Run) -> Outcome:
    from ..report.console import say

    engine.state.refuse()
    if not engine.state.out.is_dir():
        return Outcome({"left": []}, show=lambda: say(f"{engine.state.out}: nothing is there"))
    with engine.state.locked():
        left = engine.state.clean()

    def show() -> None:
        say(f"{engine.state.out}: what the pipeline wrote is removed")
        for path in left[:10]:
            say(f"left, since no pipeline wrote it: {path}")

    return Outcome({"left": [str(path) for path in left]}, show=show)


def _look(engine: Run, *, planning: bool) -> Outcome:
    """What is done, and with `planning` what would be; nothing runs, and nothing is written."""
    from ..pipeline.command_line import MODEL
    from ..pipeline.serialize import Planned, as_mapping, planned, standing
    from ..report.console import say, table

    engine.state.refuse()
    engine.settle_all()
    payload = as_mapping(engine)
    waiting = [node for node in engine.nodes if engine.outcome(node.id).state == "waiting"]
    plan = planned(engine) if planning else Planned({}, ())
    if planning:
        for mapping in payload["nodes"]:
            mapping["command"] = plan.commands.get(mapping["id"], mapping["command"])

    def show() -> None:
        rows = [[node.id, node.step, standing(engine, node), *([] if planning else [_when(mapping)])]
                for node, mapping in zip(engine.nodes, payload["nodes"], strict=True)]  # fmt: skip
        table(f"{engine.pipeline.path}", ["makes", "step", "state", *([] if planning else ["when"])], rows)
        if plan.lines:
            say(f"would run in {engine.state.folder}; what is ready earlier runs by a command of its own:", "bold")
            for line in plan.lines:
                say(f"  {line}")
            if any(f"/{MODEL}/" in line for line in plan.lines):
                say(f"{MODEL} in a path is not known yet: the model brings its name when it is made", "dim")
        lacking = sum("unavailable" in row[2] for row in rows)
        say(f"{payload['cached']} of {len(rows)} are done, {len(waiting)} are not, {lacking} lack something here")

    return Outcome(payload, DONE, show, f"zoo run {shlex.quote(str(engine.pipeline.path))}" if waiting else "")


def _when(mapping: dict[str, Any]) -> str:
    return f"{mapping['ended']}, {mapping['seconds']:.1f} s" if mapping["ended"] else ""


def _run(engine: Run, file: Path, where: str) -> Outcome:
    from ..pipeline.report import write_report
    from ..pipeline.scheduler import run as run_all
    from ..pipeline.serialize import as_mapping, exit_code, heading, standing
    from ..report.console import say, table

    with engine.state.locked():
        with _watched() as told:
            engine.told = told
            try:
                outcomes = run_all(engine)
            except KeyboardInterrupt:
                say(f"what is done stays done; go on with: zoo run {shlex.quote(str(file))}{where}")
                raise
        payload = as_mapping(engine)
        report = write_report(engine, payload)
    code = exit_code(outcomes)
    payload |= report
    worked = [node for node in engine.nodes if not ((one := engine.outcome(node.id)).state == "cached" and one.passed)]

    def show() -> None:
        if not worked:
            say(f"nothing to do: all {len(engine.nodes)} are done")
        else:
            rows = [[node.id, standing(engine, node), f"{engine.outcome(node.id).record.seconds:.1f}"  # pyright: ignore[reportOptionalMemberAccess]
                     if engine.outcome(node.id).record else ""] for node in worked]  # fmt: skip
            table(f"{file}: {heading(engine)}", ["makes", "state", "s"], rows)
        for node in engine.nodes:
            outcome = engine.outcome(node.id)
            if outcome.state == "failed":
                say(
                    f"{node.id}: run it again with: cd {shlex.quote(str(engine.state.folder))} && {outcome.command}",
                    "yellow",
                )
                say(f"  its log: {os.path.relpath(engine.state.folder / outcome.log)}", "yellow")
        if report.get("proven"):
            say(report["proven"], "bold")
        for pick in payload.get("picks", ()):
            say(pick["sentence"])
        for note in report.get("notes", ()):
            say(note)
        if report.get("report"):
            say(f"report: {report['report']}")

    return Outcome(payload, code, show, _next(engine, payload))


def _next(engine: Run, payload: dict[str, Any]) -> str:
    packages = [one["path"] for one in payload["nodes"] if one["kind"] == "package" and one["path"]]
    if packages:
        return f"zoo verify {shlex.quote(os.path.relpath(engine.state.folder / packages[0]))}"
    return f"zoo run {shlex.quote(str(engine.pipeline.path))} --status"


@contextmanager
def _watched() -> Iterator[Callable[[Run], None]]:
    """A bar for the whole, and one for each command that runs."""
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from ..report.console import console, say

    out = console()
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[doing]}"), TimeElapsedColumn()
    seen: dict[str, str] = {}
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        whole = bar.add_task("all", total=1, doing="")
        tasks: dict[str, TaskID] = {}

        def told(engine: Run) -> None:
            settled = sum(engine.outcome(node.id).state not in ("waiting", "running") for node in engine.nodes)
            bar.update(whole, total=len(engine.nodes), completed=settled, doing=f"{settled}/{len(engine.nodes)}")
            for name in [name for name in tasks if name not in engine.running]:
                bar.remove_task(tasks.pop(name))
            for name, (group, job, _, _) in engine.running.items():
                if name not in tasks:
                    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
                    tasks[name] = bar.add_task(f"{name}{more}", total=None, doing="")
                seen_of_it = job.progress()
                if seen_of_it is not None:
                    what, done, total = seen_of_it
                    doing = f"{what} {done}/{total}" if total else what
                    bar.update(tasks[name], total=total or None, completed=done, doing=doing)
            if not out.is_terminal:
                for node in engine.nodes:
                    outcome = engine.outcome(node.id)
                    state = outcome.state
                    if seen.get(node.id) != state and state in ("running", "done", "failed"):
                        word = "inconclusive" if outcome.exit_code == INCONCLUSIVE else state
                        say(f"{word}: {node.id}")
                    seen[node.id] = state

        yield told
