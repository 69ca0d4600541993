from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from zoo.errors import UsageError
from zoo.models.logits import check_logits, count_logits, logits_of
from zoo.models.spec import ModelSpec


class Says(nn.Module):
    """A classifier of 4 classes whose forward is what the test wants."""

    def __init__(self, made: object) -> None:
        super().__init__()
        self.made = made

    def forward(self, x: torch.Tensor) -> object:
        return self.made(x.mean((2, 3))[:, :1].repeat(1, 4))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda x: (x, 1), r"a tuple of 2 .* such as return self\.model\(x\)\[0\]"),
        (
            lambda x: {"loss": 1, "logits": x},
            r'a dict with loss, logits .* such as return self\.model\(x\)\["logits"\]',
        ),
        (lambda x: OrderedDict(out=x), r'OrderedDict with out .*\["out"\]'),
        (lambda x: x[:, 0], r"a tensor of \(2,\).*torch\.stack"),
        (lambda x: x[..., None], r"a tensor of \(2, 4, 1\)"),
        (lambda x: None, "the model gives NoneType"),
        (lambda x: x.argmax(1, keepdim=True), "int64"),
        (lambda x: x[5], r"IndexError.*test_logits\.py, line \d+\); give the right --input"),
        (lambda x: exit(), "SystemExit"),
    ],
)
def test_what_is_no_logits_is_named_with_what_would_be(made: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        logits_of(Says(made), np.zeros((2, 3, 8, 8), np.float32))


def test_a_single_logit_is_refused_with_the_way_to_two() -> None:
    single = Says(lambda x: x[:, :1])
    with pytest.raises(UsageError, match=r"net gives a single logit .* torch\.cat\(\[torch\.zeros_like\(x\), x\], 1\)"):
        count_logits(single, (3, 8, 8), "net")
    wrapped = Says(lambda x: torch.cat([torch.zeros_like(x[:, :1]), x[:, :1]], 1))
    assert count_logits(wrapped, (3, 8, 8), "net") == 2
    logits = torch.from_numpy(logits_of(wrapped, np.full((1, 3, 8, 8), 0.7, np.float32)))
    assert torch.allclose(logits.softmax(1)[0, 1], torch.tensor(0.7).sigmoid())


def test_one_class_is_nothing_to_tell_apart(tiny_spec: ModelSpec) -> None:
    from dataclasses import replace

    with pytest.raises(UsageError, match="there is a single class, only"):
        check_logits(Says(lambda x: x[:, :1]), replace(tiny_spec, labels=("only",)), "net")


def test_the_mode_of_a_module_stays_as_it_was() -> None:
    module = Says(lambda x: x)
    for training in (True, False):
        module.train(training)
        assert count_logits(module, (3, 8, 8), "net") == 4
        assert module.training is training


def test_a_module_that_works_in_place_leaves_the_images_as_they_were() -> None:
    batch = np.ones((2, 3, 8, 8), np.float32)
    assert logits_of(Says(lambda x: x.mul_(2)), batch).shape == (2, 4)
    assert (batch == 1).all()
