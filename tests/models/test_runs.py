"""The run folder: who may write into it, and metrics.jsonl beside a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from zoo.errors import UsageError
from zoo.models.runs import CHECKPOINT, METRICS, REPLACED, RUN, TENSORBOARD, append_metrics, claim, settle_metrics


def made(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).mkdir() if name in (TENSORBOARD, REPLACED) else (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize(
    "names",
    [(), (METRICS,), (METRICS, TENSORBOARD), (REPLACED,), (f".{CHECKPOINT}.0123abcd.tmp", METRICS), (CHECKPOINT,)],
)
def test_what_a_kill_leaves_can_be_resumed(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = made(tmp_path / "run", *names)
    for dry in (True, False):
        claim(folder, resume=True, overwrite=False, dry=dry)
    assert {path.name for path in folder.iterdir()} == set(names), "nothing is taken away"
    claim(tmp_path / "not there", resume=True, overwrite=False)


def test_a_finished_run_and_what_is_no_run_are_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no checkpoint to resume \(the run is finished\); give --overwrite"):
        claim(made(tmp_path / "run", RUN, METRICS), resume=True, overwrite=False)
    for number, names in enumerate([("thesis.txt",), (METRICS, "thesis.txt"), (".hidden.tmp",)]):
        folder = made(tmp_path / str(number), *names)
        for resume in (True, False):
            with pytest.raises(UsageError, match="is not empty and holds no run"):
                claim(folder, resume=resume, overwrite=not resume)
        assert {path.name for path in folder.iterdir()} == set(names)


@pytest.mark.parametrize(
    ("before", "epochs", "last", "after"),
    [
        ([1, 2, 3], 2, 2, [1, 2]),
        ([1], 2, 2, [1, 2]),
        ([], 1, 1, [1]),
        ([1, 2], 2, 2, [1, 2]),
        ([1, 2], 0, None, []),
        ([1], 3, 3, [1]),
        ([1, 2], 2, None, [1, 2]),
    ],
    ids=["too many", "one is missing", "the first", "as it is", "from the beginning", "lost by others", "an old one"],
)
def test_metrics_fit_the_checkpoint(
    tmp_path: Path, before: list[int], epochs: int, last: int | None, after: list[int]
) -> None:
    for epoch in before:
        append_metrics(tmp_path, {"epoch": epoch})
    settle_metrics(tmp_path, epochs, None if last is None else {"epoch": last})
    text = (tmp_path / METRICS).read_text() if (tmp_path / METRICS).exists() else ""
    assert [json.loads(line)["epoch"] for line in text.splitlines()] == after


def test_half_a_line_is_written_again(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('{"epoch": 1}\n{"epoch": 2, "lo')
    settle_metrics(tmp_path, 2, {"epoch": 2, "loss": 0.5})
    assert (tmp_path / METRICS).read_text() == '{"epoch": 1}\n{"epoch": 2, "loss": 0.5}\n'
