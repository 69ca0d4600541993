from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from zoo.config import from_mapping, from_toml, near, parse_setting, read_json, read_toml, to_mapping
from zoo.errors import UsageError
from zoo.models.spec import ModelSpec, Preprocess


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Options:
    mirror: Literal["random", "never"] = "random"
    area: tuple[float, float] = (0.1, 1.0)


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner | None = None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"nam": "x"}, 'unknown key `nam`, did you mean "name"'),
        ({"name": "x", "inner": {"sise": 2}}, r'unknown key `inner\.sise`, did you mean "size"'),
        ({"name": "x", "inner": {"size": "two"}}, r"\$\.inner\.size"),
        ({"inner": {}}, "name"),
        ({"name": 3}, r"\$\.name"),
        ([], "object"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(data: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        from_mapping(Outer, data, "file.toml")


def test_a_spec_round_trips() -> None:
    spec = ModelSpec("m", (3, 8, 8), Preprocess((8, 8), (9, 9), "bicubic"), ("a", "b"))
    assert from_mapping(ModelSpec, to_mapping(spec), "x") == spec


def test_a_contradiction_in_a_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text('name="m"\ninput=[3,8,8]\nlabels=["a"]\n[preprocess]\ncrop=[8,9]\n')
    with pytest.raises(UsageError, match=r"spec\.toml.*preprocess makes"):
        from_toml(ModelSpec, path)
    path.write_text("name = ")
    with pytest.raises(UsageError, match=r"spec\.toml.*TOML"):
        from_toml(ModelSpec, path)


@pytest.mark.parametrize("text", ["x = " + "1" * 5000, "x = " + "[" * 100_000, "x = "])
def test_toml_that_is_too_much_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.toml").write_text(text)
    with pytest.raises(UsageError, match="cannot be read as TOML") as caught:
        read_toml(tmp_path / "b.toml")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("text", ['{"x": NaN}', '{"x": 1e999}', '{"x": ' + "1" * 5000 + "}", "[" * 100_000, ""])
def test_json_of_what_is_no_number_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(UsageError, match="cannot be read as JSON"):
        read_json(tmp_path / "b.json")


def test_a_setting_of_too_many_digits_is_one_line() -> None:
    with pytest.raises(UsageError, match="--set lr"):
        parse_setting("lr=" + "1" * 5000, "lr=0.05")


def test_a_wrong_word_is_answered_with_the_right_ones() -> None:
    with pytest.raises(UsageError, match=r"mirror is one of random, never"):
        from_mapping(Options, {"mirror": "sometimes"}, "here")
    with pytest.raises(UsageError, match=r"for example area=\[0.1, 1.0\]"):
        from_mapping(Options, {"area": 0.5}, "here")


@pytest.mark.parametrize(
    ("word", "suggested"),
    [("ONNX", "onnx"), ("onx", "onnx"), ("TensorRT", "trt"), ("tensor-rt", "trt"), ("OnnxRuntime", "onnx"),
     ("Mixed", "MiXed"), ("onnx", ""), ("tensorflow", ""), ("something else", "")],
)  # fmt: skip
def test_what_was_meant(word: str, suggested: str) -> None:
    found = near(word, ["onnx", "trt", "MiXed"], {"tensorrt": "trt", "onnxruntime": "onnx"})
    assert found == (f', did you mean "{suggested}"?' if suggested else "")
