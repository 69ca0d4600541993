from __future__ import annotations

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
