"""What a package does when Python runs it: `python MODEL.zoo predict IMAGE...`, `verify`, `profile`.

It needs numpy and Pillow, and ONNX Runtime (or torch, for a TorchScript artifact). Exit codes are zoo's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...errors import DONE, INTERRUPTED, USAGE, UsageError, ZooError, worst
from .container import Package


def main(path: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command on the package at `path`; the exit code."""
    parser = parser_of(Path(path).name)
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    try:
        with Package(path) as package:
            payload, code, show = COMMANDS[given.command](package, given)
    except ZooError as error:
        return _failed(given, error.exit_code, error.as_mapping(), str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except ImportError as error:  # numpy or Pillow is missing
        message = f"{error.name} is not installed"
        return _failed(given, 3, {"kind": "unavailable", "message": message}, f"{message}; pip install {NEEDS}")
    if given.json:
        _out(json.dumps({"ok": code == DONE, "exit_code": code, **payload}))
    else:
        for line in show:
            _out(line)
    return code


NEEDS = "onnxruntime numpy pillow"


def parser_of(name: str) -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(name, description="A packaged image classifier; README.md in it says what it is.")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object")
    shared.add_argument("--artifact", help="one of those in the package; else the first that runs here")
    commands = parser.add_subparsers(dest="command")
    predict = commands.add_parser("predict", parents=[shared], help="the top answers for image files")
    predict.add_argument("images", nargs="+", type=Path)
    predict.add_argument("--top", type=int, default=5)
    commands.add_parser("verify", parents=[shared], help="hashes, and the package's own samples on this machine")
    profile = commands.add_parser("profile", parents=[shared], help="how fast it is on this machine")
    profile.add_argument("--batch", type=int, default=1)
    profile.add_argument("--threads", type=int)
    return parser


Done = tuple[dict[str, Any], int, list[str]]


def run_predict(package: Package, given: argparse.Namespace) -> Done:
    """The answers, as `zoo predict` shows them."""
    from ...models.preprocess import decode
    from .predictor import Predictor

    if given.top < 1:
        raise UsageError(f"--top must be at least 1, got {given.top}")
    decoded = [decode(path) for path in given.images]
    predictor = Predictor(package, given.artifact)
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

    found = verify(package, given.artifact)
    code = worst(gate.exit_code for gate in found.gates)
    lines = [f"{gate.name:<28} {gate.verdict:<8} {gate.reason}" for gate in found.gates]
    if found.skews:
        lines += ["", "what a mistake in the preprocessing would give on these samples:"]
        lines += [
            f"  {skew.mistake:<52} same answer {skew.agreement:.0%}, logits {skew.distance:.3f} away"
            for skew in found.skews
        ]
    payload = {"gates": [gate.as_mapping() for gate in found.gates], "skews": [asdict(skew) for skew in found.skews]}
    return payload, code, lines


def run_profile(package: Package, given: argparse.Namespace) -> Done:
    """Load, first inference, percentiles, throughput, memory."""
    from .timing import profile

    for name in ("batch", "threads"):
        value = getattr(given, name)
        if value is not None and not 1 <= value <= 4096:
            raise UsageError(f"--{name} must be 1 to 4096, got {value}")
    found = profile(package, given.artifact, given.batch, given.threads)
    told = ", ".join(f"{name} {value:.2f}" for name, value in found.percentiles.items())
    low, high = found.interval
    lines = [
        f"{found.artifact}, batch {found.batch}: {told} ms; the median is {low:.2f} to {high:.2f} with 95 % certainty",
        f"load {found.load:.0f} ms, first inference {found.first:.1f} ms, {found.per_second:,.0f} images/s, "
        + (f"{found.peak_mb:.0f} MB at most" if found.peak_mb is not None else "memory is not told here"),
        f"{found.runs:,} runs; {found.conditions}",
    ]
    return asdict(found), DONE, lines


COMMANDS: dict[str, Callable[[Package, argparse.Namespace], Done]] = {
    "predict": run_predict, "verify": run_verify, "profile": run_profile,
}  # fmt: skip


def _failed(given: argparse.Namespace, code: int, error: dict[str, str], text: str) -> int:
    if given.json:
        _out(json.dumps({"ok": False, "exit_code": code, "error": error}))
    sys.stderr.write(f"error: {text}\n")
    return code


def _out(line: str) -> None:
    sys.stdout.write(f"{line}\n")
