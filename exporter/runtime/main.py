"""What a package does when Python runs it: `python MODEL.zoo predict IMAGE...`, `verify`, `profile`.

It needs numpy and Pillow, and ONNX Runtime (or torch, for a TorchScript artifact). Exit codes are zoo's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ...errors import DONE, INTERRUPTED, USAGE, UsageError, ZooError, printable, worst
from ...models.processors import limit_threads
from .container import Package

if TYPE_CHECKING:
    from .profile import Profile


def main(path: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command on the package at `path`; the exit code."""
    limit_threads(os.environ)  # before torch and numpy are loaded, which count the machine's cores
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime's, on by itself since 1.31; nothing here uploads
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = parser_of(Path(path).name)
    given = argparse.Namespace(json="--json" in words)
    try:
        asked = parser.parse_args(words)
        if asked.command is None:
            raise UsageError("no command", fix=f"one of {', '.join(COMMANDS)}; --help says more")
        given = asked
        with Package(path) as package:
            payload, code, show = COMMANDS[given.command](package, given)
    except ZooError as error:
        return _failed(given, error.exit_code, error.as_mapping(), str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except MemoryError:
        message, fix = "this machine has too little memory for it", "give it more, or another artifact"
        return _failed(given, 3, {"kind": "unavailable", "message": message, "fix": fix}, f"{message}; {fix}")
    except ImportError as error:  # numpy or Pillow is missing
        if error.name is None:  # a Ctrl-C in the midst of an import, which the library took for a fault
            return INTERRUPTED
        message = f"{PIP.get(str(error.name), error.name)} is not installed in {sys.executable}"
        fix = f"pip install {NEEDS}"
        return _failed(given, 3, {"kind": "unavailable", "message": message, "fix": fix}, f"{message}; {fix}")
    lines = [json.dumps({"ok": code == DONE, "exit_code": code, **payload})] if given.json else show
    return code if _out(lines) else code or USAGE


SAME = 0.1  # as a share: up to here the sum of the operators is about the latency
NEEDS = "onnxruntime numpy pillow"
PIP = {"PIL": "pillow"}  # as pip calls it


class _Parser(argparse.ArgumentParser):
    """One whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, fix=f"{self.prog} --help")


def parser_of(name: str) -> argparse.ArgumentParser:
    """The command line."""
    parser = _Parser(name, description="A packaged image classifier; README.md in it says what it is.")
    shared = _Parser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object")
    shared.add_argument("--artifact", help="one of those in the package; else the first that runs here")
    shared.add_argument("--allow-code", action="store_true", help="open artifacts that are programs (TorchScript), too")
    commands = parser.add_subparsers(dest="command")
    predict = commands.add_parser("predict", parents=[shared], help="the top answers for image files")
    predict.add_argument("images", nargs="+", type=Path)
    predict.add_argument("--top", type=int, default=5)
    commands.add_parser("verify", parents=[shared], help="hashes, and the package's own samples on this machine")
    profile = commands.add_parser("profile", parents=[shared], help="how fast it is on this machine")
    profile.add_argument("--batch", type=int, action="append", help="images at once; may be given several times")
    profile.add_argument("--threads", type=int)
    profile.add_argument("--per-layer", action="store_true", help="the time of each operator too")
    profile.add_argument("--samples", type=Path, help="a folder with pixels.npy and labels.npy: right answers here")
    return parser


Done = tuple[dict[str, Any], int, list[str]]


def run_predict(package: Package, given: argparse.Namespace) -> Done:
    """The answers, as `zoo predict` shows them."""
    from ...models.preprocess import decode
    from .predictor import Predictor

    if given.top < 1:
        raise UsageError(f"--top must be at least 1, got {given.top}", fix="such as --top 5")
    decoded = [decode(path) for path in given.images]
    predictor = Predictor(package, given.artifact, allow_code=given.allow_code)
    answers = [
        {"image": str(path), "top": top}
        for path, top in zip(given.images, predictor.answers(decoded, given.top), strict=True)
    ]
    lines = [
        f"{answer['image'] if place == 0 else '':<32} {one['label']:<24} {one['probability']:.2%}"
        for answer in answers
        for place, one in enumerate(answer["top"])
    ]
    if not package.manifest["meaningful"]:
        lines.append("the weights are random: these answers mean nothing")
    return {"artifact": predictor.artifact["name"], "predictions": answers}, DONE, lines


def run_verify(package: Package, given: argparse.Namespace) -> Done:
    """Every gate with its reason, and what mistakes give."""
    from .verify import verify

    found = verify(package, given.artifact, allow_code=given.allow_code)
    code = worst(gate.exit_code for gate in found.gates)
    lines = [f"{gate.name:<28} {gate.verdict:<8} {gate.reason}" for gate in found.gates]
    if found.skews:
        lines += ["", "what a mistake in the preprocessing would give on these samples:"]
        lines += [
            f"  {skew.mistake:<52} same answer {skew.agreement:.0%}, logits {skew.distance:.3f} away"
            for skew in found.skews
        ]
    lines += ["", "judged by the package's own code, on this machine; `zoo verify` judges it by its own, in a sandbox"]
    payload = {
        "gates": [gate.as_mapping() for gate in found.gates],
        "skews": [skew.as_mapping() for skew in found.skews],
    }
    return payload, code, lines


def run_profile(package: Package, given: argparse.Namespace) -> Done:
    """Load, first inference, percentiles, throughput, memory, and what the device tells meanwhile."""
    from .profile import profile

    batches = given.batch or [1]
    for name, value in (*(("batch", one) for one in batches), ("threads", given.threads)):
        if value is not None and not 1 <= value <= 4096:
            raise UsageError(f"--{name} must be 1 to 4096, got {value}", fix=f"such as --{name} 1")
    with _doing() as tell:
        found = profile(
            package,
            given.artifact,
            batches,
            given.threads,
            per_layer=given.per_layer,
            samples=given.samples,
            allow_code=given.allow_code,
            tell=tell,
        )
    lines = told_profile(found)
    if given.per_layer and not found.operators:
        lines.append("no times of single operators: only ONNX Runtime reports them")
    return asdict(found), DONE, lines


@contextlib.contextmanager
def _doing() -> Iterator[Callable[[str], None]]:
    """A line on the terminal that says what is done now, gone at the end; nothing where stderr is no terminal."""
    shown = sys.stderr is not None and sys.stderr.isatty()

    def write(text: str) -> None:
        if shown:
            with contextlib.suppress(OSError):
                sys.stderr.write(f"\r\033[K{text}")
                sys.stderr.flush()

    try:
        yield lambda what: write(f"measuring: {what} …")
    finally:
        write("")


def told_profile(found: Profile) -> list[str]:
    """In lines."""
    lines = [f"{found.artifact} on {found.machine}, {found.runtime}; loaded in {found.load:.0f} ms"]
    for row in found.rows:
        told = ", ".join(f"{name} {value:.2f}" for name, value in row.percentiles.items())
        low, high = row.interval
        energy = "" if row.joules is None else f", {1e3 * row.joules:.2f} mJ an image ({found.energy_of})"
        lines.append(
            f"batch {row.batch}: {told} ms of {row.runs:,} runs (median {low:.2f} to {high:.2f} with 95 % certainty), "
            f"first {row.first:.1f} ms, {row.per_second:,.0f} images/s, {row.cpu:.2f} ms of CPU{energy}"
        )
    if found.accuracy is not None:
        right, images = found.accuracy
        lines.append(f"accuracy here: {right / max(images, 1):.2%} of {images:,} images")
    lines.append(f"{found.peak_mb:.0f} MB at most" if found.peak_mb is not None else "the memory is not available here")
    seen = found.telemetry
    lines += [f"{name}: {low:.0f} to {high:.0f} degrees" for name, (low, high) in seen.temperatures.items()]
    if seen.mhz is not None:
        lines.append(f"clocks: {seen.mhz[0]:.0f} to {seen.mhz[1]:.0f} MHz")
    if seen.gpu_mhz is not None:
        lines.append(f"GPU: {seen.gpu_mhz[0]:.0f} to {seen.gpu_mhz[1]:.0f} MHz")
    lines += [f"{name}: {value:.2f} W on average" for name, value in seen.watts.items()]
    lines += list(seen.throttled)
    if seen.silent:
        lines.append(f"not available on this device: {', '.join(seen.silent)}")
    if found.operators:
        total = sum(one.microseconds for one in found.operators)
        median = next((row.percentiles.get("p50") for row in found.rows if row.batch == 1), None)
        lines.append(f"operators, the slowest first, batch 1, {beside_latency(total, median)}:")
    for one in found.operators[:10]:
        lines.append(f"{one.microseconds:>9.0f} us  {one.kind:<22} {one.name}")
    return lines


def beside_latency(microseconds: float, median: float | None) -> str:
    """Return what the time of all operators together is beside the latency that was measured without the profiler.

    Args:
        microseconds: of all operators.
        median: milliseconds of one run at batch 1; None where that was not measured.
    """
    together = microseconds / 1e3
    told = f"{together:.2f} ms together"
    if not median:
        return told
    if abs(together / median - 1) < SAME:
        return f"{told}, about the latency of {median:.2f} ms"
    if together > median:
        return f"{told}, more than the latency of {median:.2f} ms because the runtime's profiler slows each operator"
    return (
        f"{told}, less than the latency of {median:.2f} ms: the rest passes between the operators, or the machine was "
        "busier while the latency was measured"
    )


COMMANDS: dict[str, Callable[[Package, argparse.Namespace], Done]] = {
    "predict": run_predict, "verify": run_verify, "profile": run_profile,
}  # fmt: skip


def _failed(given: argparse.Namespace, code: int, error: dict[str, str], text: str) -> int:
    if given.json:
        _out([json.dumps({"ok": False, "exit_code": code, "error": error})])
    _complain(printable(" ".join(text.split())))
    return code


def _complain(text: str) -> None:
    with contextlib.suppress(OSError, AttributeError):  # nobody reads it: the exit code still tells
        sys.stderr.write(f"error: {text}\n")
        sys.stderr.flush()


def _out(lines: Sequence[str]) -> bool:
    """Write them; whether they arrived, or nobody wanted them any more."""
    try:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
    except BrokenPipeError:
        _no_more_output()
    except (OSError, AttributeError) as error:  # full, or closed
        _no_more_output()
        _complain(f"stdout cannot be written: {getattr(error, 'strerror', None) or 'it is closed'}")
        return False
    return True


def _no_more_output() -> None:
    """What Python would still write as it ends goes nowhere: it would fail again, and that would be the exit code."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
