"""What a pipeline costs beside its commands by hand, what its matrix saves, and whether kill -9 can hurt it.

    .venv/bin/python benchmarks/pipeline.py overhead [ROUNDS]
    .venv/bin/python benchmarks/pipeline.py matrix
    .venv/bin/python benchmarks/pipeline.py kills [KILLS] [SECONDS] [--small]

`overhead` runs the example (on one core, so that nothing runs at once) and then the same commands one after the other.
`matrix` runs 36 exports as a pipeline and as 36 commands. `kills` kills the example at random moments, at most SECONDS
after its start, goes on, and when it is through begins anew; each time everything is compared with a run that nobody
disturbed, whose choices by time it was given; --small with a small network, one epoch and one backend.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
ZOO = [sys.executable, "-m", "zoo"]
MATRIX = """
[pipeline]
data = "digits"

[steps.models]
do = "source"
source = ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "googlenet", "efficientnet_b0", "resnet34"]
weights = "random"
input = "3x64x64"

[steps.artifacts]
do = "export"
from = "models"
to = ["torchscript", "onnx"]
precision = ["fp32", "fp16", "bf16"]
"""


def write_example(folder: Path, *, cores: int | None = None, small: bool = False) -> None:
    """The example and the files that it names, in a folder of its own; `small` is another network, trained less."""
    text = (ROOT / "examples" / "pipeline.toml").read_text().replace('"../build/pipeline"', '"out"')
    if cores is not None:
        text = text.replace("[pipeline]\n", f"[pipeline]\ncores = {cores}\n")
    if small:
        text = text.replace("resnet18", "mobilenet_v3_small").replace('["torchscript", "onnx"]', '["onnx"]')
        text = re.sub(r"epochs = \d", "epochs = 1", text)
    folder.mkdir(exist_ok=True)
    (folder / "pipeline.toml").write_text(text)
    shutil.copy(ROOT / "examples" / "budget.toml", folder)


def run(folder: Path, *, environment: dict[str, str] | None = None) -> dict:
    """A pipeline to its end; what it says."""
    done = subprocess.run([*ZOO, "run", "pipeline.toml", "--json"], cwd=folder, capture_output=True, text=True,
                          check=False, env=environment)  # fmt: skip
    found = json.loads(done.stdout)
    if "error" in found:
        sys.exit(f"{found['error']}")
    return found


def fresh(cache: Path) -> dict[str, str]:
    """An environment in which no ranges are kept from before."""
    return {**os.environ, "ZOO_CACHE": str(cache)}


def commands(found: dict) -> list[str]:
    """What its steps ran, in the order in which they ended, each once."""
    made = sorted((one for one in found["nodes"] if one["ended"] and one["command"]), key=lambda one: one["ended"])
    return list(dict.fromkeys(one["command"] for one in made))


def overhead(rounds: int = 2) -> None:
    """The pipeline's time over that of its commands, which are the ones that it ran: merged where it merges.

    One round after the other in turned order, after a pipeline that is not counted: it tells the commands.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_example(folder, cores=1)
        run(folder, environment=fresh(folder / "cache"))
        logs = sorted((folder / "out" / "logs").rglob("*.log"), key=lambda one: one.stat().st_mtime)
        lines = [line[2:] for log in logs for line in log.read_text().splitlines() if line.startswith("$ ")]
        times: dict[str, list[float]] = {"pipeline": [], "hand": []}
        for index in range(rounds):
            for way in sorted(times, reverse=index % 2 == 1):
                shutil.rmtree(folder / "out", ignore_errors=True)
                shutil.rmtree(folder / "cache")
                environment = fresh(folder / "cache")
                begun = time.perf_counter()
                if way == "pipeline":
                    run(folder, environment=environment)
                else:
                    (folder / "out" / "packages").mkdir(parents=True)
                    for line in lines:
                        subprocess.run(["sh", "-c", in_shell(line)], cwd=folder, capture_output=True, check=False,
                                       env=environment)  # fmt: skip
                times[way].append(time.perf_counter() - begun)
                print(f"{len(lines)} commands, {way}: {times[way][-1]:.1f} s", flush=True)
    ratios = [whole / hand for whole, hand in zip(times["pipeline"], times["hand"], strict=True)]
    low, high = min(ratios), max(ratios)
    print(f"the pipeline over its commands by hand: {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})")


def in_shell(line: str) -> str:
    """A command's line with this environment's zoo."""
    return re.sub(r"(^|&& |\d )zoo ", rf"\1{shlex.join(ZOO)} ", line)


def matrix() -> None:
    """36 exports as one pipeline, and one after the other."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "pipeline.toml").write_text(MATRIX)
        begun = time.perf_counter()
        found = run(folder)
        together = time.perf_counter() - begun
        lines = commands(found)
        begun = time.perf_counter()
        for line in lines:
            plain = re.sub(r"OMP_NUM_THREADS=\d+ ", "", line).replace("--out out/", "--out hand/")
            subprocess.run(["sh", "-c", in_shell(plain)], cwd=folder, capture_output=True, check=False)
        apart = time.perf_counter() - begun
        failed = [one["id"] for one in found["nodes"] if one["state"] == "failed"]
        print(f"{len(lines)} commands: {together:.0f} s as a pipeline, {apart:.0f} s one after the other: "
              f"{together / apart:.2f}; failed in both: {failed}")  # fmt: skip


def kills(count: int = 100, longest: float = 40.0, seed: int = 0, *, small: bool = False) -> None:
    """Kill, go on, compare."""
    drawn = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        calm, rough = Path(place) / "calm", Path(place) / "rough"
        for folder in (calm, rough):
            write_example(folder, small=small)
        wanted = results(calm, run(calm))
        print(f"undisturbed: {len(wanted)} results")
        done = through = 0
        begin_anew(calm, rough)
        while done < count:
            process = subprocess.Popen([*ZOO, "run", "pipeline.toml"], cwd=rough, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)  # fmt: skip
            try:
                process.wait(drawn.uniform(0.2, longest))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
                continue
            through += 1
            differ(wanted, results(rough, run(rough)), done)
            if done < count:
                begin_anew(calm, rough)
        differ(wanted, results(rough, run(rough)), done)
        print(f"{done} kills, {through} times through: everything whole, and as without")


def begin_anew(calm: Path, rough: Path) -> None:
    """Without anything but the choices by time."""
    shutil.rmtree(rough / "out", ignore_errors=True)
    shutil.copytree(calm / "out" / ".zoo" / "plans", rough / "out" / ".zoo" / "plans")
    shutil.copy(calm / "out" / ".zoo" / "pipeline.json", rough / "out" / ".zoo" / "pipeline.json")


def results(folder: Path, found: dict) -> dict[str, str]:
    """What each step left, as hashes; every artifact is loaded, every package verified."""
    from zoo.exporter.artifact.folder import load_artifact
    from zoo.exporter.runtime.container import Package

    made: dict[str, str] = {}
    for one in found["nodes"]:
        path = folder / one["path"] if one["path"] else None
        if path is None or one["state"] not in ("done", "cached"):
            made[one["id"]] = one["state"].replace("done", "cached")
        elif one["kind"] in ("train", "prune"):
            made[one["id"]] = sha256((path / "weights.safetensors").read_bytes())
        elif one["kind"] == "export":
            manifest = load_artifact(path).manifest
            files = {name: record.sha256 for name, record in manifest.files.items()}
            made[one["id"]] = sha256(json.dumps([files, str(manifest.plan)]).encode())
        elif one["kind"] == "check":
            gates = [[gate["name"], gate["verdict"], gate["reason"]] for gate in json.loads(path.read_text())["gates"]]
            made[one["id"]] = sha256(json.dumps(gates).encode())
        elif one["kind"] == "package":
            with Package(path) as package:
                package.verify_all()
                kept = {name: held["sha256"] for name, held in package.manifest["files"].items()
                        if not name.endswith((".json", ".md"))}  # fmt: skip
            made[one["id"]] = sha256(json.dumps(kept).encode())
    return made


def sha256(content: bytes) -> str:
    """Of bytes."""
    return hashlib.sha256(content).hexdigest()


def differ(wanted: dict[str, str], got: dict[str, str], done: int) -> None:
    """Stop where something is not as it is without kills."""
    wrong = [name for name in wanted if wanted[name] != got.get(name)]
    print(f"after {done} kills: {len(got) - len(wrong)} of {len(wanted)} as without", flush=True)
    if wrong:
        sys.exit(f"other than without: {', '.join(wrong)}")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    job, *rest = sys.argv[1:] or ["overhead"]
    numbers = [int(one) for one in rest if one != "--small"]
    options = {"small": True} if "--small" in rest else {}
    {"overhead": overhead, "matrix": matrix, "kills": kills}[job](*numbers, **options)
