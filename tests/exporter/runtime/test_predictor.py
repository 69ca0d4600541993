from __future__ import annotations

import json
from dataclasses import replace

from zoo.config import to_json
from zoo.exporter.runtime.predictor import spec_of
from zoo.models.spec import ModelSpec, numbered_labels


def test_a_package_remembers_that_its_classes_have_no_names(tiny_spec: ModelSpec) -> None:
    unnamed = replace(tiny_spec, labels=numbered_labels(10), has_class_names=False)
    for spec in (tiny_spec, unnamed):
        assert spec_of({"spec": json.loads(to_json(spec))}) == spec
    old = json.loads(to_json(tiny_spec))
    del old["has_class_names"]
    assert spec_of({"spec": old}) == tiny_spec
