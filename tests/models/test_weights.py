from __future__ import annotations

import pickle
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
    weights.fit(other, weights.read(tmp_path / "w.safetensors").state, "w")
    assert weights.digest(one) == weights.digest(other)


WRAPPED = {
    "bare": (lambda s: s, ""),
    "state_dict": (lambda s: {"state_dict": s, "epoch": 3}, "took `state_dict`"),
    "model": (lambda s: {"model": s}, "took `model`"),
    "module.": (lambda s: {f"module.{k}": v for k, v in s.items()}, "cut the prefix `module.`"),
    "compiled": (lambda s: {"state_dict": {f"_orig_mod.{k}": v for k, v in s.items()}}, "cut the prefix `_orig_mod.`"),
    "ema": (
        lambda s: {"model": {k: v * 0 for k, v in s.items()}, "model_ema": {"n_averaged": torch.tensor(1),
                   **{f"module.{k}": v for k, v in s.items()}}},
        "averaged weights `model_ema` instead of `model`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_state_dicts_are_unwrapped_and_it_is_said(kind: str, tmp_path: Path) -> None:
    wrap, words = WRAPPED[kind]
    torch.save(wrap(net().state_dict()), tmp_path / "w.pth")
    loaded = weights.read(tmp_path / "w.pth")
    module = net()
    with torch.no_grad():
        module[0].weight.zero_()
    weights.fit(module, loaded.state, "w.pth")
    assert weights.digest(module) == weights.digest(net())
    assert words in " ".join(loaded.notes)


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


class Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("executed"),))


def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, "evil.pth")
    Path("evil2.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(IntegrityError, match=name):
            weights.read(Path(name))
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_truncated_file_is_an_integrity_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith("s"):
        weights.save(path, net())
    else:
        torch.save(net().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(IntegrityError, match=name):
        weights.read(path)


def test_no_state_dict_in_it(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="no state dict"):
        weights.read(tmp_path / "w.pth")
    with pytest.raises(UsageError, match="no such weights"):
        weights.read(tmp_path / "none.pth")


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
