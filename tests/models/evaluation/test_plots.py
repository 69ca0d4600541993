from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from zoo.models.evaluation.plots import plot_tsne


@pytest.mark.parametrize(("images", "width"), [(1, 5), (2, 5), (3, 1), (12, 1)])
def test_few_images_and_narrow_features_are_drawn(images: int, width: int, tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(images, width)).astype(np.float32)
    plot_tsne(tmp_path / "tsne.png", features, np.zeros(images, np.int64), ("only",), "few")
    assert (tmp_path / "tsne.png").stat().st_size > 1000


def test_a_model_that_says_the_same_to_all_is_drawn_as_one_point(tmp_path: Path) -> None:
    plot_tsne(tmp_path / "tsne.png", np.ones((9, 4), np.float32), np.arange(9) % 2, ("a", "b"), "the same")
    assert (tmp_path / "tsne.png").stat().st_size > 1000
