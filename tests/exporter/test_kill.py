"""SIGKILL at any moment leaves the old artifact or the new one, whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from zoo.errors import UsageError
from zoo.exporter.artifact.folder import load_artifact

HELPER = Path(__file__).with_name("killed_export.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}


def whole(folder: Path) -> str:
    """The model's name of a whole artifact, or "nothing"."""
    try:
        return load_artifact(folder).manifest.spec.name
    except UsageError:
        assert not folder.exists()
        return "nothing"


@pytest.mark.slow
@pytest.mark.parametrize("before", ["old", "nothing"])
def test_between_any_two_changes_of_the_disk(before: str, tmp_path: Path) -> None:
    command = [sys.executable, str(HELPER), str(tmp_path), before]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    kills = int(done.stdout.split()[-1])
    assert kills > 20, "the export changes the disk more often than that"
    found = [whole(tmp_path / str(index) / "artifact") for index in range(1, kills + 2)]
    old = "resnet18" if before == "old" else "nothing"
    assert set(found) == {old, "mobilenet_v3_small"}
    switch = found.index("mobilenet_v3_small")
    assert set(found[:switch]) == {old}
    assert set(found[switch:]) == {"mobilenet_v3_small"}, "once it is there it stays"


MOMENTS = 20


@pytest.mark.slow
def test_at_random_moments(trained_folder: Path, tmp_path: Path) -> None:
    """The real command, killed anywhere, imports included; each time it starts from the artifact that is there."""
    zoo = [sys.executable, "-m", "zoo", "export", str(trained_folder), "--to", "torchscript"]
    final = tmp_path / "exports" / "tiny" / "torchscript-fp32"

    def start() -> subprocess.Popen:
        return subprocess.Popen([*zoo, "--out", str(tmp_path / "exports")], stderr=subprocess.DEVNULL, env=ENVIRONMENT)

    begun = time.monotonic()
    assert start().wait() == 0
    duration = time.monotonic() - begun
    chance = random.Random(0)
    created = load_artifact(final).manifest.created
    replaced = 0
    for attempt in range(MOMENTS):
        if attempt % 2:
            shutil.rmtree(final)
            created = ""
        process = start()
        time.sleep(chance.uniform(0.5, 1.05) * duration)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if final.exists():
            now = load_artifact(final).manifest.created
            replaced += now != created
            created = now
        else:
            assert attempt % 2, "an artifact that was there must not vanish"
            assert start().wait() == 0
            created = load_artifact(final).manifest.created
        assert len(list(final.parent.iterdir())) <= 2, (
            "at most one temporary sibling is left, and the next one cleans up"
        )
    assert 0 < replaced < MOMENTS, f"{replaced} of {MOMENTS} finished: the kills came at no interesting moments"
