from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from zoo.config import from_mapping, from_toml, to_mapping
from zoo.errors import UsageError
from zoo.models.spec import ModelSpec, Preprocess


@dataclass(frozen=True)
class Inner:
    size: int = 1


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
