from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from zoo.errors import UnavailableError, UsageError
from zoo.models import weights
from zoo.models.fresh import new_model
from zoo.models.registry import create_model
from zoo.models.sources import SourceOptions, logits_of, rebuild, resolve
from zoo.models.spec import ModelSpec

FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8, classes)
    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))

def make(classes=4): return Net(classes)
def raises(): raise RuntimeError("boom")
def number(): return 3
def pair():
    class Two(Net):
        def forward(self, x): return super().forward(x), 1
    return Two()
value = 5
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.startswith("user_")]:
        del sys.modules[name]
    return tmp_path


def test_a_users_factory(here: Path) -> None:
    (here / "user_net.py").write_text(FACTORY)
    (here / "errors.py").write_text("raise SystemExit('shadowed')")
    (here / "models").mkdir()
    (here / "models" / "__init__.py").write_text("raise SystemExit('shadowed')")
    model = resolve("user_net:make", SourceOptions(input=(3, 16, 16)))
    assert model.spec.input == (3, 16, 16)
    assert model.spec.labels == ("class 0", "class 1", "class 2", "class 3")
    assert not model.spec.has_class_names
    assert "assumed ImageNet's mean and std and 4 classes without names" in model.notes[0]
    weights.save(here / "w.safetensors", model.module)
    again = rebuild(model.origin, here / "w.safetensors")
    batch = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
    assert np.array_equal(logits_of(again, batch), logits_of(model.module, batch))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("user_net:raises", "boom"),
        ("user_net:number", "returned int"),
        ("user_net:pair", "not logits"),
        ("user_net:value", "no callable value"),
        ("user_net:mak", 'did you mean "make"'),
        ("user_nothing:make", "no module user_nothing"),
        ("user_broken:make", "importing it failed: SyntaxError"),
        ("user_needs:make", "no_such_package"),
    ],
)
def test_a_users_mistake_is_named(here: Path, source: str, words: str) -> None:
    (here / "user_net.py").write_text(FACTORY)
    (here / "user_broken.py").write_text("def make(:")
    (here / "user_needs.py").write_text("import no_such_package")
    with pytest.raises(UsageError, match=words):
        resolve(source, SourceOptions(input=(3, 16, 16)))


def test_spec_toml(here: Path) -> None:
    (here / "user_net.py").write_text(FACTORY)
    text = 'name = "net"\ninput = [3, 16, 16]\nlabels = [{labels}]\n[preprocess]\ncrop = [16, 16]\nresize = 20\n'
    (here / "spec.toml").write_text(text.format(labels='"a", "b", "c", "d"'))
    options = SourceOptions(spec=here / "spec.toml")
    assert resolve("user_net:make", options).spec.name == "net"
    (here / "spec.toml").write_text(text.format(labels='"a", "b"'))
    with pytest.raises(UsageError, match="4 logits, but there are 2 classes"):
        resolve("user_net:make", options)


@pytest.mark.parametrize(
    ("source", "words"),
    [("resnet19", 'did you mean "resnet18"'), ("runs/none", "no such run"), ("torchvision:resnet19", "did you mean")],
)
def test_unknown_sources_name_near_ones(here: Path, source: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolve(source)


def test_a_package_is_said_to_run_by_itself(tmp_path: Path) -> None:
    (tmp_path / "one.zoo").write_bytes(b"")
    with pytest.raises(UsageError, match=r"is a package, which runs by itself; python .*one.zoo predict"):
        resolve(str(tmp_path / "one.zoo"))


def test_without_weights_the_newest_run_is_taken_and_said(here: Path, trained_folder: Path) -> None:
    shutil.copytree(trained_folder, here / "runs" / "older")
    newer = Path(shutil.copytree(trained_folder, here / "runs" / "newer"))
    text = (newer / "run.json").read_text()
    created = text.split('"created": "')[1][:4]
    (newer / "run.json").write_text(text.replace(f'"created": "{created}', f'"created": "{int(created) + 1}'))
    model = resolve("resnet18")
    assert model.weights == "run runs/newer"
    assert "newest run" in model.notes[0]
    assert model.reached is not None


@pytest.mark.filterwarnings("ignore")
def test_without_runs_and_network_the_choices_are_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(here / "hub"))
    with pytest.raises(UnavailableError) as caught:
        resolve("resnet18")
    assert all(
        word in str(caught.value)
        for word in ("--weights RUN, FILE or random", "zoo train resnet18", "no run of resnet18")
    )
    with pytest.raises(UnavailableError, match="torchvision has no ImageNet weights of mobilenet_v1"):
        resolve("mobilenet_v1", SourceOptions(weights="imagenet"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["resnet18", "googlenet", "efficientnet_b0"])
def test_imagenet_weights_bring_their_transforms(here: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The real path, with a file in torch's download cache; its numbers are not ImageNet's."""
    from torchvision.models import get_model, get_model_weights

    monkeypatch.setenv("TORCH_HOME", str(here / "hub"))
    best = get_model_weights(name).DEFAULT
    arguments = {"init_weights": True, "transform_input": True} if name == "googlenet" else {}
    torch.manual_seed(0)
    theirs = get_model(name, **arguments).eval()
    weights.random_statistics(theirs, (3, 224, 224), 0)
    cache = here / "hub" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(theirs.state_dict(), cache / best.url.rsplit("/", 1)[1])
    model = resolve(name, SourceOptions(weights="imagenet"))
    assert best.name in model.weights
    assert model.spec.labels[0] == "tench"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 260, 3), np.uint8))
    with torch.inference_mode():
        expected = theirs(best.transforms()(image)[None]).numpy()
    from zoo.models.preprocess import prepare

    for batch in (model.transform(image), prepare([image], model.spec.preprocess)):
        assert np.abs(logits_of(model.module, batch) - expected).max() < 1e-4 * np.ptp(expected)


def test_torchvision_and_timm_sources() -> None:
    pytest.importorskip("timm")
    for source, size in (("torchvision:mobilenet_v3_small", 224), ("timm:mobilenetv3_small_050", 224)):
        model = resolve(source, SourceOptions(weights="random"))
        assert model.spec.input == (3, size, size)
        assert not model.meaningful
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 260, 3), np.uint8))
        from zoo.models.preprocess import prepare
        from zoo.models.sources import Transform  # noqa: F401

        assert np.abs(prepare([image], model.spec.preprocess) - model.transform(image)).max() < 1e-5


def test_starting_from_other_classes_replaces_the_head_and_says_so(trained: Path, tiny_spec: ModelSpec) -> None:
    from dataclasses import replace

    spec = replace(tiny_spec, labels=("a", "b", "c"))
    model = new_model(str(trained), spec, SourceOptions())
    assert "fc.weight" in model.notes[-1]
    assert logits_of(model.module, np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 3)
    kept = resolve(str(trained)).module
    assert torch.equal(model.module.conv1.weight, kept.conv1.weight)


def test_weights_of_another_stem_do_not_fit(here: Path) -> None:
    weights.save(here / "w.safetensors", create_model("resnet18", stem="small"))
    with pytest.raises(UsageError, match="conv1.weight is 64x3x3x3, the model's is 64x3x7x7"):
        resolve("resnet18", SourceOptions(weights=str(here / "w.safetensors")))


def test_labels_and_spec_apply_to_every_source_that_does_not_remember_its_own(here: Path) -> None:
    (here / "user_net.py").write_text(FACTORY)
    names = ("a", "b", "c")
    model = resolve("user_net:make", SourceOptions(input=(3, 16, 16), labels=("a", "b", "c", "d")))
    assert (model.spec.labels, model.spec.has_class_names) == (("a", "b", "c", "d"), True)
    assert "assumed ImageNet's mean and std" in model.notes[0]
    assert "without names" not in model.notes[0]
    with pytest.raises(UsageError, match="4 outputs, and 3 labels are given"):
        resolve("user_net:make", SourceOptions(input=(3, 16, 16), labels=names))
    for source in ("mobilenet_v3_small", "torchvision:mobilenet_v3_small"):
        model = resolve(source, SourceOptions(weights="random", input=(3, 32, 32), labels=names))
        assert (model.spec.labels, model.spec.input) == (names, (3, 32, 32))
        assert logits_of(model.module, np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 3)
    text = 'name = "net"\ninput = [3, 32, 32]\nlabels = ["x", "y"]\n[preprocess]\ncrop = [32, 32]\n'
    (here / "spec.toml").write_text(text)
    model = resolve("torchvision:mobilenet_v3_small", SourceOptions(weights="random", spec=here / "spec.toml"))
    assert (model.spec.name, model.spec.labels, model.origin.arguments["num_classes"]) == ("net", ("x", "y"), 2)


def test_weights_of_a_wrapped_module_are_read_again(here: Path) -> None:
    """The names of what a user's wrapper holds all begin with `module.`, in the model and in the file."""
    wrapped = (
        "\nclass Wrapped(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.module = Net()\n"
        "    def forward(self, x): return self.module(x)\n"
        "def wrapped(): return Wrapped()\n"
    )
    (here / "user_net.py").write_text(FACTORY + wrapped)
    model = resolve("user_net:wrapped", SourceOptions(input=(3, 16, 16)))
    weights.save(here / "w.safetensors", model.module)
    again = rebuild(model.origin, here / "w.safetensors")
    assert weights.digest(again) == weights.digest(model.module)
    torch.save(model.module.module.state_dict(), here / "bare.pth")
    taken = resolve("user_net:wrapped", SourceOptions(input=(3, 16, 16), weights=str(here / "bare.pth")))
    assert weights.digest(taken.module) == weights.digest(model.module)
    assert "put the prefix `module.`" in taken.notes[-1]
