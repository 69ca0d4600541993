from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from zoo.errors import IntegrityError, UsageError
from zoo.models import weights


def net(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, classes))


def test_round_trip(tmp_path: Path) -> None:
    one, other = net(), net()
    with torch.no_grad():
        other[0].weight.zero_()
    weights.save(tmp_path / "w.safetensors", one)
    weights.fit(other, weights.read(tmp_path / "w.safetensors"), "w")
    assert weights.digest(one) == weights.digest(other)


def test_what_does_not_fit_is_named() -> None:
    state = net(classes=7).state_dict()
    del state["0.bias"]
    state["extra"] = torch.zeros(1)
    with pytest.raises(UsageError) as caught:
        weights.fit(net(), state, "w.pth")
    message = str(caught.value)
    assert "1 missing (0.bias)" in message
    assert "1 unexpected (extra)" in message
    assert "2.weight is 7x5, the model's is 3x5" in message


def test_a_truncated_file_is_an_integrity_error(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights.save(path, net())
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(IntegrityError, match="w.safetensors"):
        weights.read(path)


class Wrapper(nn.Module):
    """Every name begins with `module.`, as in DataParallel, AveragedModel and wrappers of users."""

    def __init__(self) -> None:
        super().__init__()
        self.module = net()


def test_names_of_a_module_are_never_cut_in_what_zoo_wrote(tmp_path: Path) -> None:
    for kind in (Wrapper(), torch.optim.swa_utils.AveragedModel(net()), torch.compile(net())):
        weights.save(tmp_path / "w.safetensors", kind)
        weights.fit(kind, weights.read(tmp_path / "w.safetensors"), "w")


def test_a_buffer_made_by_expand_is_written_to(tmp_path: Path) -> None:
    module = net()
    module.register_buffer("ones", torch.ones(1).expand(4))
    module[0].bias = nn.Parameter(torch.zeros(1).expand(5))
    weights.save(tmp_path / "w.safetensors", module)
    weights.fit(module, weights.read(tmp_path / "w.safetensors"), "w")
    assert module.ones.tolist() == [1, 1, 1, 1]
    assert module[0].bias.is_contiguous()


def test_random_statistics_make_a_deep_network_speak() -> None:
    from zoo.models.registry import create_model

    torch.manual_seed(0)
    model = create_model("resnet50", num_classes=10, stem="small", width=0.25)
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        weights.random_statistics(model, (3, 32, 32), seed=0)
        logits = model(images)
    assert not model.training
    assert float(logits.std(0).max()) > 1e-2
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
