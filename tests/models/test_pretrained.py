from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
from PIL import Image
from zoo.errors import UnavailableError, UsageError
from zoo.models.pretrained import from_timm, from_torchvision

SMALL = "mobilenetv3_small_050"


def test_a_models_own_transform_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = from_torchvision("squeezenet1_1", "random", {})
    monkeypatch.setattr("torchvision.transforms.functional.normalize", lambda *_, **__: 1 / 0)
    with pytest.raises(UsageError, match="own transform fails on an image of 30 x 20: ZeroDivisionError"):
        model.transform(Image.new("RGB", (30, 20)))


def test_arguments_that_a_library_refuses_are_named() -> None:
    with pytest.raises(UsageError, match=r"squeezenet1_1 cannot be built with \{'colour': 3\}: TypeError"):
        from_torchvision("squeezenet1_1", "random", {"colour": 3})


def test_fresh_models_bring_no_class_names() -> None:
    spec = from_torchvision("squeezenet1_1", "random", {"num_classes": 3}).spec
    assert (spec.labels, spec.has_class_names) == (("class 0", "class 1", "class 2"), False)
    assert not from_timm(SMALL, "random", {"num_classes": 3}).spec.has_class_names


@pytest.mark.usefixtures("reachable")
def test_timms_own_weights_bring_imagenets_names_or_say_that_they_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import timm

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **more: create(name, pretrained=False, **more))
    spec = from_timm(SMALL, "own", {}).spec
    assert (spec.labels[0], len(spec.labels), spec.has_class_names) == ("tench", 1000, True)
    assert not from_timm(SMALL, "own", {"num_classes": 3}).spec.has_class_names, "another head"

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UnavailableError, match="timm's weights of .* cannot be had \\(no network"):
        from_timm(SMALL, "own", {})


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that answers, wherever the tests run."""
    import huggingface_hub

    class Session:
        def head(self, *_: object, **__: object) -> None:
            pass

    monkeypatch.setattr(huggingface_hub, "get_session", Session)


def test_a_hub_that_cannot_be_reached_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    asked: list[str] = []

    class Session:
        def head(self, url: str, **_: object) -> None:
            asked.append(url)
            raise ConnectionError("Connection refused")

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    before = constants.HF_HUB_OFFLINE
    with pytest.raises(UnavailableError, match="cannot be reached: Connection refused") as caught:
        from_timm(SMALL, "own", {})
    assert "--weights random" in caught.value.fix
    assert len(asked) == 1
    assert before == constants.HF_HUB_OFFLINE
    assert not [entry for entry in caplog.records if entry.name.startswith("huggingface_hub")]


def test_torchvisions_weights_that_cannot_be_had_say_what_else_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise URLError("Connection refused")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refused)
    with pytest.raises(UnavailableError, match="Connection refused") as caught:
        from_torchvision("mnasnet0_5", "own", {})
    assert caught.value.fix.startswith("give --weights random, or put https://download.pytorch.org/models/mnasnet0.5")
    assert str(tmp_path) in caught.value.fix
    assert capsys.readouterr().out == "", "nor does torch print of its own"
