"""What docs/security.md promises, tried: hostile packages, mutations, artifacts replaced during a check, and the cost.

    .venv/bin/python benchmarks/security.py hostile           # each package that acts or hangs, with the default limits
    .venv/bin/python benchmarks/security.py mutations         # 22 other structures and 300 random changes of a package
    .venv/bin/python benchmarks/security.py replaced          # an artifact replaced at 50 random moments of its check
    .venv/bin/python benchmarks/security.py cost CHECKOUT     # zoo verify beside that of another checkout with a .venv

Each makes what it needs of a small network that it trains on scikit-learn's digits.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from hostile_packages import (  # pyright: ignore[reportMissingImports] - of tests/
    GRAPHS,
    MARK,
    PROGRAMS,
    UNREADABLE,
    samples,
    with_files,
    with_model,
)

ZOO = (sys.executable, "-P", "-m", "zoo")
LONGEST = 20.0  # seconds in which a hostile package has to be refused
ROUNDS = 7


def zoo(*arguments: str, cwd: Path, code: int | None = 0, command: Sequence[str] = ZOO) -> tuple[float, int, str, str]:
    """Run zoo; seconds, exit code, what it printed and its last words."""
    begun = time.perf_counter()
    done = subprocess.run([*command, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=600)
    taken = time.perf_counter() - begun
    assert code is None or done.returncode == code, done.stderr[-2000:]
    return taken, done.returncode, done.stdout, done.stderr


def made(place: Path, *more: str) -> dict[str, Path]:
    """Artifacts of a small network, each with its evidence, and packages of one and of all."""
    zoo("train", "mobilenet_v3_small", "--data", "digits", "--epochs", "3", "--out", "run", cwd=place)
    zoo("export", "run", "--to", "onnx,torchscript", "--data", "digits", "--out", "exports", *more, cwd=place)
    found = {one.name.partition("-")[0]: one for one in (place / "exports" / "mobilenet_v3_small").iterdir()}
    zoo("check", *map(str, found.values()), "--data", "digits", cwd=place, code=None)
    zoo("package", str(found["onnx"]), "--out", "one.zoo", cwd=place)
    zoo("package", *map(str, found.values()), "--out", "all.zoo", cwd=place)
    return {**found, "one": place / "one.zoo", "all": place / "all.zoo"}


def hostile(place: Path) -> bool:
    """Every package that acts or hangs; whether each ended as it should."""
    found = made(place)
    cases: list[tuple[str, Callable[[Path], Path], bool]] = []
    for name, program in PROGRAMS.items():
        cases.append((f"TorchScript: {name}", lambda at, one=program: with_model(found["torchscript"], one(), at),
                      name in UNREADABLE))  # fmt: skip
    for name, graph in GRAPHS.items():
        cases.append((f"ONNX: {name}", lambda at, one=graph: with_model(found["onnx"], one(), at), False))
    cases += [(f"package: {name}", lambda at, one=files: with_files(found["one"], one, at), False)
              for name, files in samples().items()]  # fmt: skip
    wrong = []
    for index, (name, make, opened) in enumerate(cases):
        folder = place / f"hostile{index}"
        folder.mkdir()
        package = make(folder / "hostile.zoo")
        taken, code, _, words = zoo(
            "verify", package.name, *(["--allow-code"] if opened else []), cwd=folder, code=None
        )
        good = code == 5 and taken <= LONGEST and not (folder / MARK).exists() and words.count("\n") == 1
        wrong += [] if good else [name]
        print(f"{'' if good else 'WRONG '}{taken:5.1f} s  {code}  {name:<48} {words.strip()[:150]}", flush=True)
        shutil.rmtree(folder)
    print(f"{len(cases)} packages, {len(wrong)} wrong: {wrong}")
    return not wrong


def structures(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """A package's bytes in other structures that a zip may have."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = [(one, archive.read(one)) for one in archive.infolist()]

    def again(change: Callable[[list[tuple[zipfile.ZipInfo, bytes]]], None] | None, compression: int = 0) -> bytes:
        kept = [(zipfile.ZipInfo(one.filename, one.date_time), content) for one, content in members]
        if change is not None:
            change(kept)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", compression) as archive:
            for one, content in kept:
                archive.writestr(one, content, compression)
        return out.getvalue()

    def linked(kept: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
        kept[0][0].external_attr = (0o120777) << 16

    def dated(kept: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
        kept[0][0].date_time = (2026, 1, 1, 0, 0, 0)

    def renamed(name: str) -> bytes:
        def change(kept: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
            kept[0][0].filename = name

        return again(change)

    end = whole.rindex(b"PK\x05\x06")
    first = whole.index(b"PK\x01\x02")
    yield "bytes before it", b"#!/bin/sh\n" + whole
    yield "bytes behind it", whole + b"\0"
    yield "a comment", whole[:-2] + struct.pack("<H", 4) + b"more"
    yield "half of it", whole[: len(whole) // 2]
    yield "no end", whole[:end]
    yield "no directory", whole[:first] + whole[end:]
    yield "a gap before the directory", whole[:first] + b"\0" * 16 + whole[first:]
    yield "written by another tool", again(None)
    yield "compressed", again(None, zipfile.ZIP_DEFLATED)
    yield "members in another order", again(lambda kept: kept.reverse())
    yield "a member twice", again(lambda kept: kept.append(kept[0]))
    yield "a member missing", again(lambda kept: kept.__delitem__(0))
    yield "a symbolic link", again(linked)
    yield "a name that goes up", renamed("../up.py")
    yield "an absolute name", renamed("/etc/up.py")
    yield "a name with a backslash", renamed("a\\b.py")
    yield "a name of another case", renamed("ZOO/errors.py")
    yield "a folder", renamed("folder/")
    yield "another date", again(dated)
    flagged = bytearray(whole)
    flagged[first + 8] |= 1
    yield "said to be encrypted", bytes(flagged)
    moved = bytearray(whole)
    moved[first + 42 : first + 46] = struct.pack("<L", 1)
    yield "an offset inside of another", bytes(moved)
    yield "no manifest", again(lambda kept: kept.__delitem__(-1))


def mutations(place: Path) -> bool:
    """Other structures, and random changes; whether each was refused, or changed words of the manifest alone."""
    whole = made(place)["one"].read_bytes()
    draw = random.Random(0)
    cases = list(structures(whole))
    manifest = whole.rindex(b"PK\x03\x04")
    for index in range(300):
        content = bytearray(whole)
        kind = draw.choice(("flip", "flip", "cut", "insert", "repeat"))
        at, size = draw.randrange(manifest), draw.randrange(1, 4096)
        if kind == "flip":
            for _ in range(draw.randrange(1, 8)):
                content[draw.randrange(manifest)] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del content[at : at + size]
        else:
            content[at:at] = draw.randbytes(size) if kind == "insert" else content[at : at + size]
        cases.append((f"{kind} {index}", bytes(content)))
    wrong, slowest = [], 0.0
    for name, content in cases:
        (place / "changed.zoo").write_bytes(content)
        taken, code, _, words = zoo("verify", "changed.zoo", cwd=place, code=None)
        slowest = max(slowest, taken)
        if code != 5 or words.count("\n") != 1 or taken > LONGEST:
            wrong.append(f"{name}: {code} {words[-200:]}")
    print(f"{len(cases)} packages, slowest {slowest:.1f} s, {len(wrong)} wrong: {wrong}")
    return not wrong


def replaced(place: Path) -> bool:
    """An artifact replaced by another at a random moment of `zoo check`; whether its evidence is ever of the other."""
    found = made(place)
    folder, other = found["onnx"], place / "other"
    shutil.copytree(folder, other)
    worse(other)
    kept = place / "kept"
    shutil.copytree(folder, kept)
    whole = zoo("check", str(folder), "--data", "digits", cwd=place)[0]
    draw = random.Random(0)
    told: dict[str, int] = {}
    wrong = []
    for _ in range(50):
        for one in (folder, place / "aside"):
            shutil.rmtree(one, ignore_errors=True)
        shutil.copytree(kept, folder)
        evidence = folder.with_name(f"{folder.name}.check.json")
        evidence.unlink(missing_ok=True)
        process = subprocess.Popen([*ZOO, "check", str(folder), "--data", "digits"], cwd=place,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        time.sleep(draw.uniform(0, whole))
        folder.rename(place / "aside")
        shutil.copytree(other, folder)
        process.communicate()
        verdict = "no evidence"
        if evidence.exists():
            of = json.loads(evidence.read_bytes())
            judged = {one["name"]: one["verdict"] for one in of["gates"]}
            passed = judged["numerics"] == "pass"
            of_the_old = of["artifact_sha256"] == sha(kept)
            of_the_new = of["artifact_sha256"] == sha(folder)
            verdict = f"evidence of the {'old' if of_the_old else 'new' if of_the_new else 'unknown'}, " + (
                "passed" if passed else "failed"
            )
            if passed is not of_the_old or not (of_the_old or of_the_new):
                wrong.append(verdict)
        print(f"exit {process.returncode}, {verdict}", flush=True)
        told[f"exit {process.returncode}, {verdict}"] = told.get(f"exit {process.returncode}, {verdict}", 0) + 1
    print("\n".join(f"{count:>3}  {what}" for what, count in sorted(told.items())))
    print(f"50 moments of {whole:.1f} s, {len(wrong)} wrong: {wrong}")
    return not wrong


def worse(folder: Path) -> None:
    """The artifact with one logit wrong by 5, its hashes made right: a check of it fails."""
    path = folder / "model.onnx"
    model = onnx.load(path)
    classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    for node in model.graph.node:
        node.output[:] = ["before" if name == "logits" else name for name in node.output]
    shift = np.zeros(classes, np.float32)
    shift[0] = 5
    model.graph.initializer.append(numpy_helper.from_array(shift, "shift"))
    model.graph.node.append(helper.make_node("Add", ["before", "shift"], ["logits"]))
    onnx.save(model, path)
    manifest = json.loads((folder / "artifact.json").read_text(encoding="utf-8"))
    content = path.read_bytes()
    manifest["files"]["model.onnx"] = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    (folder / "artifact.json").write_text(json.dumps(manifest), encoding="utf-8")


def sha(folder: Path) -> str:
    """Of its artifact.json."""
    return sha256((folder / "artifact.json").read_bytes()).hexdigest()


def cost(place: Path, checkout: str) -> bool:
    """Seconds of `zoo verify` here and of another checkout's, in turn, each of a package of its own."""
    there = (str(Path(checkout) / ".venv/bin/python"), "-P", "-m", "zoo")
    made(place)
    for arguments in (
        ("train", "mobilenet_v3_small", "--data", "digits", "--epochs", "3", "--out", "old-run"),
        ("export", "old-run", "--to", "onnx,torchscript", "--data", "digits", "--out", "old"),
        ("package", "old/mobilenet_v3_small/onnx-fp32", "old/mobilenet_v3_small/torchscript-fp32", "--out", "old.zoo"),
    ):
        zoo(*arguments, cwd=place, command=there)
    ratios: dict[str, list[float]] = {}
    for name, more in (("without programs", ()), ("with programs", ("--allow-code",))):
        pairs = []
        for _ in range(ROUNDS):
            old_more = more if "--allow-code" in zoo("verify", "--help", cwd=place, command=there)[2] else ()
            old = zoo("verify", "old.zoo", *old_more, cwd=place, command=there, code=None)[0]
            new = zoo("verify", "all.zoo", *more, cwd=place, code=None)[0]
            pairs.append((old, new))
        ratios[name] = [new / old for old, new in pairs]
        told = ", ".join(f"{statistics.median(one):.2f} s" for one in zip(*pairs, strict=True))
        print(f"{name}: {told}; {statistics.median(ratios[name]):.2f} times "
              f"({min(ratios[name]):.2f} to {max(ratios[name]):.2f})")  # fmt: skip
    return True


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        good = {"hostile": hostile, "mutations": mutations, "replaced": replaced, "cost": cost}[what](
            Path(folder), *rest
        )
    sys.exit(0 if good else 1)
