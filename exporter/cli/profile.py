"""`zoo profile`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import DONE, USAGE, UsageError, worst
from .main import DataRoot, Debug, Json, Outcome

if TYPE_CHECKING:
    from ..device.profile import Measured, ProfileOptions

FILES = ("profile.json", "profile.png")


def profile(
    what: Annotated[Path, typer.Argument(metavar="ARTIFACT|PACKAGE", help="What zoo export or zoo package wrote.")],
    on: Annotated[str, typer.Option(help="local, ssh://user@host:port, or a .toml file of devices.")] = "local",
    batch_sizes: Annotated[str, typer.Option(help="Batch sizes (images at once), such as 1,8.")] = "1",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the runtime; without it the runtime chooses.")
    ] = None,
    artifact: Annotated[
        str | None, typer.Option(help="Which artifact of a package; without it the first that runs.")
    ] = None,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="Measure each operator too.")] = False,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Open artifacts of a package that are programs (TorchScript), too.")
    ] = False,
    data: Annotated[str | None, typer.Option(help="Count right answers on its validation images too.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="How many of these images at most; 500 without it.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for profile.json, and profile.png with --per-layer.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as one HTML file.")] = None,
    data_root: DataRoot = None,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Measure latency, throughput, memory, energy and heat here or on devices over ssh, where no torch is needed."""
    del debug, json
    from ..device.profile import ProfileOptions, meaningful, worst_of
    from ..device.profile import profile as measure
    from ..device.target import places
    from ..report.console import progress, say

    where = places(on)
    options = ProfileOptions(parse_sizes(batch_sizes), threads, artifact, per_layer, allow_code)
    if out is not None:
        claim_place(out)
    if html is not None:
        refuse_html(html, what, out)
    if images is not None and data is None:
        raise UsageError("--images: only with --data", fix="give --data")
    images = images or 500
    dataset, pointless = None, ""
    if data is not None:
        from ...models.data.catalog import open_data

        dataset = open_data(data, data_root)
        if not meaningful(what):
            dataset, pointless = None, "the weights are random: no right answers are counted"
    with progress("devices") as bar:
        rows = measure(what, where, options, dataset, images, bar)
    payload: dict[str, Any] = {"what": str(what), "devices": [as_mapping(row) for row in rows]}
    if out is not None:
        save(payload, rows, out)
    code, unwritten = worst(worst_of(rows)), ""
    if html is not None:
        about = asked(options, dataset.name if dataset is not None else None, images)
        unwritten = write_html({**payload, "options": about}, code, html)
        code = worst([code, USAGE]) if unwritten else code
    kept = [note for note in (pointless, unwritten) if note]
    payload |= {"notes": kept} if kept else {}
    several = [] if artifact is not None or what.is_dir() else artifacts_in(what)
    others = f"the package has {', '.join(several)}; --artifact chooses" if several else ""
    if len(rows) == 1 and rows[0].error is not None:
        if unwritten:
            say(unwritten)
        raise rows[0].error
    named = shlex.quote(str(what))
    after = f"zoo check {named} --data DATA --latency" if what.is_dir() else f"zoo verify {named}"
    written = [out, None if unwritten else html]
    return Outcome(
        payload, code, show=lambda: show(rows, written, [pointless, others, unwritten], per_layer), next=after
    )


def parse_sizes(text: str) -> tuple[int, ...]:
    """`1,8` as numbers. Raises UsageError."""
    parts = text.split(",")
    if not all(part.strip().isascii() and part.strip().isdigit() and len(part) < 9 for part in parts):
        raise UsageError(f"--batch-sizes {text}: not numbers of images", fix="for example --batch-sizes 1,8")
    return tuple(int(part) for part in parts)


def as_mapping(row: Measured) -> dict[str, Any]:
    """One device's row."""
    common = {"device": row.place.label, "on": row.place.on}
    if row.error is not None:
        return {**common, "error": row.error.as_mapping()}
    return {**common, **{key: value for key, value in (row.found or {}).items() if key not in ("ok", "exit_code")}}


def claim_place(folder: Path) -> None:
    """Raise UsageError for a folder that `save` would not write to: before anything is measured."""
    from ...atomic import claim

    claim(folder, FILES, '"devices"', "profile")


def save(payload: dict[str, Any], rows: list[Measured], folder: Path) -> None:
    """profile.json, and a picture of the first device's operators; the folder is replaced in one step."""
    from ...atomic import staged
    from ...config import to_json
    from ..device.picture import draw

    claim_place(folder)
    with staged(folder) as place:
        (place / FILES[0]).write_text(to_json(payload), encoding="utf-8")
        for row in rows:
            if row.found is not None and row.found["operators"]:
                draw(row.found["operators"], f"{row.found['artifact']} on {row.place.label}", place / FILES[1])
                break


def refuse_html(html: Path, what: Path, out: Path | None) -> None:
    """Raise before anything is measured where the page cannot be made or written, or would break something else."""
    from ..report.output_path import page_mark, refuse_place
    from ..report.profile_page import MADE_BY
    from ..report.skeleton import require_libraries

    if out is not None and out.resolve() in html.resolve().parents:
        raise UsageError(f"--html {html} is inside of --out {out}, which is replaced as a whole", fix="give another")
    refuse_place(html, page_mark(MADE_BY), [what])
    require_libraries()


def asked(options: ProfileOptions, data: str | None, images: int) -> dict[str, Any]:
    """Return what was asked for, in words."""
    return {
        "batch sizes": list(options.batches),
        "threads": options.threads or "as the runtime chooses",
        "artifact": options.artifact or "the first that runs there",
        "single operators": "measured where the runtime reports them" if options.per_layer else "not asked for",
        "validation images": f"up to {images:,} of {data}" if data is not None else "not asked for",
    }


def write_html(result: dict[str, Any], code: int, html: Path) -> str:
    """Write the page; why it could not be written, for what was measured is not to be lost by it."""
    import datetime

    from ... import atomic
    from ..checks.evidence import versions
    from ..report.profile_page import render_profile

    made = {
        "ok": code == DONE,
        "exit_code": code,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["zoo", *sys.argv[1:]]),
        "versions": versions(),
        **result,
    }
    try:
        atomic.write_file(html, render_profile(made).encode())
    except OSError as error:
        return f"{html} could not be written: {error.strerror or error}"
    return ""


def artifacts_in(package: Path) -> list[str]:
    """The names of a package's artifacts, where it has several."""
    from ..runtime.container import Package

    with Package(package) as opened:
        names = [str(one["name"]) for one in opened.manifest["artifacts"]]
    return names if len(names) > 1 else []


def show(rows: list[Measured], written: list[Path | None], notes: list[str], per_layer: bool) -> None:
    """Print a table, then what each device reported."""
    from ..report.console import COLOURS, say, table
    from ..report.devices import COLUMNS
    from ..runtime.main import beside_latency

    lines = [line for row in rows for line in lines_of(row)]
    table("latency on the device's own runtime", COLUMNS, lines)
    for row in rows:
        if row.found is None:
            say(f"{row.place.label}: {row.error}", COLOURS["error"])
            continue
        seen = row.found["telemetry"]
        heat = [f"{name} {low:.0f} to {high:.0f} degrees" for name, (low, high) in seen["temperatures"].items()]
        clocks = [f"{what} {seen[key][0]:.0f} to {seen[key][1]:.0f} MHz"
                  for what, key in (("clocks", "mhz"), ("GPU", "gpu_mhz")) if seen[key]]  # fmt: skip
        power = [f"{name} {value:.2f} W" for name, value in seen["watts"].items()]
        silent = [f"not available: {', '.join(seen['silent'])}"] if seen["silent"] else []
        told = "; ".join([*heat, *clocks, *power, *seen["throttled"], *silent])
        loaded = f"{row.found['artifact']}, {row.found['runtime']}, loaded in {row.found['load']:.0f} ms"
        say(f"{row.place.label}: {row.found['machine']}; {loaded}")
        say(f"  {told}" if told else "  heat, clocks and power are not available")
        for line in engine_lines(row.found):
            say(f"  {line}")
        if row.found["operators"]:
            total = sum(one["microseconds"] for one in row.found["operators"])
            median = next((one["percentiles"].get("p50") for one in row.found["rows"] if one["batch"] == 1), None)
            say(f"  all {len(row.found['operators'])} operators at batch 1: {beside_latency(total, median)}")
            if row.found.get("profiled_ms") and median:
                cost = row.found["profiled_ms"] - median
                say(
                    f"  a profiled run takes {row.found['profiled_ms']:.2f} ms: the profiler itself costs {cost:.2f} ms"
                )
            say("  the slowest:")
        elif per_layer:
            say(f"  no times of single operators: the runtime of {row.found['artifact']} does not report them")
        for one in row.found["operators"][:10]:
            say(f"  {one['microseconds']:>9.0f} us  {one['kind']:<22} {one['layer'] or one['name']}")
    for note in filter(None, notes):
        say(note)
    for path in filter(None, written):
        say(f"written: {path}")


def engine_lines(found: dict[str, Any]) -> list[str]:
    """What is known of an engine beside its row: how it was built there, and the GPU alone."""
    made = found.get("built")
    lines = [f"built there in {made['seconds']:.0f} s, golden images: {made['golden']}"] if made else []
    alone = [f"batch {row['batch']}: {row['gpu_ms']:.3f} ms" for row in found["rows"] if "gpu_ms" in row]
    lines += [f"the GPU alone, without transfers: {', '.join(alone)}"] if alone else []
    return [*lines, *found.get("notes", ())]


def lines_of(row: Measured) -> list[list[str]]:
    """A device's lines of the table."""
    if row.found is None:
        return [[row.place.label, "", "not measured", *[""] * 8]]
    found = row.found
    right = found["accuracy"]
    accuracy = f"{right[0] / max(right[1], 1):.2%} of {right[1]}" if right else ""
    memory = "" if found["peak_mb"] is None else f"{found['peak_mb']:.0f}"
    return [
        [
            row.place.label if index == 0 else "", str(one["batch"]), f"{one['percentiles']['p50']:.2f}",
            f"{one['interval'][0]:.2f} to {one['interval'][1]:.2f}",
            f"{one['percentiles']['p99']:.2f}" if "p99" in one["percentiles"] else "too few", f"{one['first']:.1f}",
            f"{one['per_second']:,.0f}", f"{one['cpu']:.2f}",
            "" if one["joules"] is None else f"{1e3 * one['joules']:.2f}", memory if index == 0 else "",
            accuracy if index == 0 else "",
        ]
        for index, one in enumerate(found["rows"])
    ]  # fmt: skip
