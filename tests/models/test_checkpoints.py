from __future__ import annotations

import argparse
import pickle
import random
import types
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from zoo.errors import IntegrityError, UsageError
from zoo.models import weights
from zoo.models.checkpoints import Loaded, read_for


def net(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, classes))


def zeroed(state: dict) -> dict:
    return {name: tensor * 0 for name, tensor in state.items()}


def prefixed(prefix: str, state: dict) -> dict:
    return {prefix + name: tensor for name, tensor in state.items()}


def parameters_only(state: dict) -> dict:
    return {name: tensor for name, tensor in state.items() if "running" not in name and "num_batches" not in name}


WRAPPED = {
    "bare": (lambda s: s, ""),
    "state_dict": (lambda s: {"state_dict": s, "epoch": 3}, "took `state_dict`"),
    "model": (lambda s: {"model": s, "epoch": torch.tensor(3)}, "took `model`"),
    "another key": (lambda s: {"weights_of_mine": s}, "took `weights_of_mine`"),
    "module.": (lambda s: prefixed("module.", s), "cut the prefix `module.`"),
    "compiled": (lambda s: {"state_dict": prefixed("_orig_mod.", s)}, "cut the prefix `_orig_mod.`"),
    "both": (lambda s: prefixed("_orig_mod.module.", s), "cut the prefix `_orig_mod.module.`"),
    "lightning": (
        lambda s: {"state_dict": {**prefixed("model.", s), "criterion.weight": torch.ones(3)}},
        "cut the prefix `model.` off every name, and left out criterion.weight",
    ),
    "ema": (
        lambda s: {"model": zeroed(s), "model_ema": {"n_averaged": torch.tensor(1), **prefixed("module.", s)}},
        "averaged weights `model_ema` instead of `model`",
    ),
    "ema below": (
        lambda s: {"model": zeroed(s), "ema": {"module": s, "updates": 5}},
        "averaged weights `ema.module` instead of `model`",
    ),
    "ema in one state dict": (
        lambda s: {**prefixed("online_model.", zeroed(s)), **prefixed("ema_model.", s)},
        "averaged weights `ema_model` instead of `online_model`",
    ),
    "ema without names": (
        lambda s: {"model": s, "ema": {"decay": 0.99, "num_updates": 4, "shadow_params": list(s.values())}},
        "the averaged weights `ema` were not taken",
    ),
    "ema of parameters only": (
        lambda s: {"model": s, "shadow": zeroed(parameters_only(s))}, "the averaged weights `shadow` were not taken",
    ),
    "the optimiser beside it": (
        lambda s: {"optimizer": {"state": {0: {"exp_avg": torch.ones(5)}}}, "net": s}, "took `net`",
    ),
    "torchvision's references": (
        lambda s: {"model": s, "args": argparse.Namespace(lr=0.1, output_dir=Path("out"))}, "took `model`",
    ),
    "numpy": (
        lambda s: {"state_dict": s, "best": np.float64(0.9), "hits": np.int64(3), "seen": np.zeros(3, np.uint8),
                   "rng": (np.random.get_state(), random.getstate()), "more": types.SimpleNamespace(a=1)},
        "took `state_dict`",
    ),
}  # fmt: skip


def loaded(module: nn.Module, content: object, path: Path) -> Loaded:
    torch.save(content, path)
    found = read_for(module, path)
    weights.fit(module, found.state, path.name)
    return found


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_state_dicts_are_unwrapped_and_it_is_said(kind: str, tmp_path: Path) -> None:
    wrap, words = WRAPPED[kind]
    module = net()
    with torch.no_grad():
        module[0].weight.zero_()
    found = loaded(module, wrap(net().state_dict()), tmp_path / "w.pth")
    assert weights.digest(module) == weights.digest(net())
    assert words in " ".join(found.notes)


class Wrapper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = net()


def test_a_prefix_is_cut_or_added_only_where_the_names_then_fit(tmp_path: Path) -> None:
    for content, note in (
        (Wrapper().state_dict(), ""),
        (net().state_dict(), "put the prefix `module.`"),
        (prefixed("_orig_mod.", Wrapper().state_dict()), "cut the prefix `_orig_mod.`"),
    ):
        module = Wrapper()
        with torch.no_grad():
            module.module[0].weight.zero_()
        found = loaded(module, content, tmp_path / "w.pth")
        assert weights.digest(module) == weights.digest(Wrapper())
        assert note in " ".join(found.notes)
        assert bool(note) == bool(found.notes)


def test_of_what_does_not_fit_the_nearest_is_named(tmp_path: Path) -> None:
    content = {"model": prefixed("module.", net(classes=7).state_dict()), "ema": {"decay": 0.9}}
    with pytest.raises(UsageError, match="2.weight is 7x5, the model's is 3x5"):
        loaded(net(), content, tmp_path / "w.pth")


def test_the_suffix_of_safetensors_may_be_in_capitals(tmp_path: Path) -> None:
    weights.save(tmp_path / "W.SAFETENSORS", net())
    assert read_for(net(), tmp_path / "W.SAFETENSORS").notes == ()


class Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("executed"),))


def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, "evil.pth")
    Path("evil2.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(IntegrityError, match=name):
            read_for(net(), Path(name))
    assert not Path("executed").exists()


def test_what_is_in_the_way_is_named_with_the_way_round_it(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    for content, words in (
        ({"model": net().state_dict(), "config": Decimal(1)}, r"an object of decimal\.Decimal.*state_dict"),
        (net(), r"whole module of torch\.nn\.modules\.container\.Sequential.*\.state_dict\(\), \"weights\.pth\"\)$"),
    ):
        torch.save(content, path)
        with pytest.raises(IntegrityError, match=words):
            read_for(net(), path)
    torch.jit.script(net()).save(path)
    with pytest.raises(IntegrityError, match="is a TorchScript archive"):
        read_for(net(), path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_truncated_file_is_an_integrity_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith("s"):
        weights.save(path, net())
    else:
        torch.save(net().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(IntegrityError, match=name):
        read_for(net(), path)


def test_a_file_of_another_kind_is_named_without_advice_to_run_it(tmp_path: Path) -> None:
    for name, content in (("net.py", b"import torch\n"), ("empty.pth", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(IntegrityError, match=f"{name} is no file of weights: .*; give a") as caught:
            read_for(net(), tmp_path / name)
        assert "weights_only" not in str(caught.value)
    (tmp_path / "broken.pth").write_bytes(b"\x80\x02i}q.")
    with pytest.raises(IntegrityError, match="cannot be read as a state dict") as caught:
        read_for(net(), tmp_path / "broken.pth")
    assert "weights_only" not in str(caught.value)


def test_no_state_dict_in_it(tmp_path: Path) -> None:
    for content in ({"epoch": 3}, [1], {}, {"model": {"layers": 3}}):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(UsageError, match="no state dict"):
            read_for(net(), tmp_path / "w.pth")
    with pytest.raises(UsageError, match="no such weights"):
        read_for(net(), tmp_path / "none.pth")
