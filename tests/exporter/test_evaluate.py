from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zoo
from zoo.models.data.dataset import Dataset
from zoo.models.preprocess import normalise


def test_a_test_time_flip_answers_by_both_images(trained_folder: Path, few_digits: Dataset, tmp_path: Path) -> None:
    data = replace(few_digits, mirror=True)
    with zoo.open_any(str(trained_folder)) as opened:
        found = {flip: zoo.evaluate(opened, data, tmp_path / str(flip), flip=flip) for flip in (False, True)}
        pixels = data.val.pixels(np.arange(len(data.val)), opened.spec.preprocess)
        logits = sum(opened.runner.run(normalise(view, opened.spec.preprocess)) for view in (pixels, pixels[..., ::-1]))
    assert found[True].metrics.accuracy == pytest.approx(np.mean(logits.argmax(1) == data.val.labels))
    assert found[True].metrics.confusion != found[False].metrics.confusion, "digits do suffer from it"
    for flip in (False, True):
        assert json.loads((tmp_path / str(flip) / "metrics.json").read_text())["test_flip"] is flip
    one, other = ((tmp_path / str(flip) / "tsne.png").read_bytes() for flip in (False, True))
    assert one == other, "t-SNE shows the images as they are"


def test_stopped_while_it_draws_it_leaves_nothing_that_the_next_one_would_refuse(
    trained_folder: Path, few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.exporter import evaluate as module

    def stopped(*_args: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with zoo.open_any(str(trained_folder)) as opened:
        with monkeypatch.context() as patch:
            patch.setattr(module, "plot_tsne", stopped)
            with pytest.raises(KeyboardInterrupt):
                zoo.evaluate(opened, few_digits, tmp_path / "out")
        zoo.evaluate(opened, few_digits, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["confusion.png", "metrics.json", "tsne.png"]
