from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image
from zoo.errors import UsageError
from zoo.exporter.cli.evaluate import evaluate
from zoo.exporter.cli.predict import predict

NAMES = sorted(str(number) for number in range(12))  # the order of ImageFolder: 0, 1, 10, 11, 2, ...
NET = """
import torch
from torch import nn

class Levels(nn.Module):
    \"\"\"Right for every image: its grey level tells its class, and output i is the i-th folder by name.\"\"\"

    def __init__(self):
        super().__init__()
        level = torch.tensor([(20 * int(name) + 10) / 255 for name in sorted(str(n) for n in range(12))])
        self.fc = nn.Linear(1, 12)
        with torch.no_grad():
            self.fc.weight.copy_(2 * level[:, None] * 100)
            self.fc.bias.copy_(-(level**2) * 100)

    def forward(self, x):
        return self.fc((x * 0.225 + 0.45).mean((1, 2, 3))[:, None])

def single(): return nn.Sequential(nn.Conv2d(3, 1, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("user_levels", None)
    (tmp_path / "user_levels.py").write_text(NET)
    for name in NAMES:
        for index in range(2):
            path = tmp_path / "d" / "val" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (20 * int(name) + 9 + index,) * 3).save(path)
    return tmp_path


def answers(what: str, *images: str, **options: object) -> tuple[list[str], str]:
    outcome = predict(what, [Path(image) for image in images], top=1, **{"input_": "3x32x32", **options})
    return [one["top"][0]["label"] for one in outcome.payload["predictions"]], " ".join(outcome.payload["notes"])


def test_a_model_without_class_names_names_none(here: Path) -> None:
    image = "d/val/10/0.png"
    assert answers("user_levels:Levels", image)[0] == ["class 2"], "output 2 is the folder 10"
    assert "brings no class names: answers are numbers of outputs" in answers("user_levels:Levels", image)[1]
    (here / "names.txt").write_text("\n".join(NAMES))
    found, notes = answers("user_levels:Levels", image, labels="names.txt")
    assert found == ["10"]
    assert "class names" not in notes
    spec = f"name = 'levels'\ninput = [3, 32, 32]\nlabels = {NAMES}\n[preprocess]\ncrop = [32, 32]\nresize = 32\n"
    (here / "spec.toml").write_text(spec)
    assert answers("user_levels:Levels", image, input_=None, spec=here / "spec.toml")[0] == ["10"]


def test_evaluate_takes_the_names_of_the_data_and_says_so(here: Path) -> None:
    outcome = evaluate("user_levels:Levels", "d", input_="3x32x32", out=here / "out")
    assert outcome.payload["accuracy"] == 1
    assert any("brings no class names: took the 12 of d in their order" in note for note in outcome.payload["notes"])
    wrong = ",".join(str(number) for number in range(12))
    outcome = evaluate("user_levels:Levels", "d", input_="3x32x32", labels=wrong, out=here / "out")
    assert outcome.payload["accuracy"] == pytest.approx(2 / 12), "names that a user gives are taken at their word"


def test_a_single_logit_is_refused(here: Path) -> None:
    with pytest.raises(UsageError, match="single logit"):
        answers("user_levels:single", "d/val/10/0.png")


def test_swapped_arguments_are_answered_with_the_right_order(here: Path) -> None:
    with pytest.raises(UsageError, match="the model comes first; zoo predict resnet18 d/val/10/0.png d/val/2/0.png"):
        answers("d/val/10/0.png", "d/val/2/0.png", "resnet18")
    with pytest.raises(UsageError, match="is an image, not a model source"):
        answers("d/val/10/0.png", "d/val/2/0.png", input_=None)


def test_an_image_that_viewers_would_turn_is_said_to_be_read_as_stored(here: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (40, 30)).save("turned.jpg", exif=turned)
    assert "turned.jpg: read as stored" in answers("user_levels:Levels", "turned.jpg", "d/val/1/0.png")[1]
