"""What `zoo train` says when it is interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
from zoo.exporter.cli.train import told_how_to_go_on
from zoo.models.runs import CHECKPOINT


@pytest.mark.parametrize(
    ("overwrite", "words"),
    [
        (False, "the same command with --resume goes on"),
        (True, "the same command with --resume, and without --overwrite, goes on"),
    ],
)
def test_an_interrupted_training_says_how_it_goes_on(
    overwrite: bool, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("zoo.exporter.report.console.say", told.append)
    (tmp_path / CHECKPOINT).touch()
    with pytest.raises(KeyboardInterrupt), told_how_to_go_on(tmp_path, overwrite=overwrite):
        raise KeyboardInterrupt
    assert told == [f"saved in {tmp_path}: {words}"]
