"""The receipt from the JSON of 10.x and 11.x, as published samples of it look."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from zoo.errors import IntegrityError
from zoo.exporter.artifact.manifest import Layer
from zoo.exporter.backends.tensorrt.inspector import make_receipt, parse_engine, precision_in
from zoo.exporter.checks.precision import judge_precision

PLAN = (Layer("conv1", "Conv", "fp16", 900), Layer("fc", "Gemm", "fp16", 100))


def conv(key: str = "Format/Datatype", words: str = "Half", weights: str = "Half", **changes: object) -> dict:
    tensor = {"Name": "x", "Dimensions": [1, 3, 8, 8], key: words}
    return {
        "Name": "conv1 + relu1", "LayerType": "CaskConvolution", "Inputs": [tensor], "Outputs": [tensor],
        "Weights": {"Type": weights, "Count": 9}, "Metadata": "[ONNX Layer: conv1]\x1e[ONNX Layer: relu1]",
    } | changes  # fmt: skip


def gemm(words: str = "Half") -> dict:
    tensor = {"Name": "y", "Format/Datatype": words}
    return {"Name": "fc", "LayerType": "gemm", "Inputs": [tensor], "Outputs": [tensor], "Metadata": "[ONNX Layer: fc]"}


def receipt(*layers: object, plan=PLAN):
    text = json.dumps({"Layers": list(layers)})
    return make_receipt(parse_engine(text), plan, runtime="TensorRT 10", provider="gpu", tf32=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Channel major FP16 format where channel % 8 == 0", "fp16"),
        ("Row major linear FP32", "fp32"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
        ("Row major linear BFloat16 format", "bf16"),
        ("Half", "fp16"), ("Float", "fp32"), ("Int8", "int8"), ("BF16", "bf16"), ("FP8", "fp8"),
        ("N/A due to dynamic shapes", ""), ("Row major linear UINT8", ""), ("Int32", ""), ("Bool", ""), ("", ""),
    ],
)  # fmt: skip
def test_types_in_tensorrts_words(text: str, expected: str) -> None:
    assert precision_in(text) == expected


def test_both_schemas_tell_the_same() -> None:
    old = receipt(conv(words="Channel major FP16 format where channel % 8 == 0"), gemm())
    split = {"Inputs": [{"Name": "x", "Format": "Row major linear", "Datatype": "Half"}]}
    new = receipt(conv() | split, gemm())
    assert old == new
    assert old.ran == {"conv1": "fp16", "fc": "fp16"}
    assert old.layers == {"fp16": 2}


def test_weights_speak_where_shapes_are_dynamic() -> None:
    assert receipt(conv(words="N/A due to dynamic shapes"), gemm()).ran["conv1"] == "fp16"
    assert receipt(conv(words="N/A due to dynamic shapes", weights="Float"), gemm()).higher == ("conv1",)


def test_without_metadata_the_name_tells() -> None:
    assert receipt(conv(Metadata=""), gemm()).ran["conv1"] == "fp16"


def test_a_layer_that_nothing_tells_of_is_unknown() -> None:
    found = receipt(conv())
    assert found.ran == {"conv1": "fp16"}
    assert found.layers == {"fp16": 1, "unknown": 1}
    silent = receipt(conv(), gemm(words="N/A due to dynamic shapes"))
    assert silent.layers == {"fp16": 1, "unknown": 1}


def test_a_reformat_is_no_compute_layer() -> None:
    reformat = {"Name": "conv1 copy", "LayerType": "Reformat", "Metadata": "[ONNX Layer: conv1]",
                "Outputs": [{"Format/Datatype": "Float"}]}  # fmt: skip
    found = receipt(reformat, conv(), gemm())
    assert found.reformats == 1
    assert found.ran["conv1"] == "fp16"


def test_of_a_split_layer_the_widest_part_counts() -> None:
    assert receipt(conv(), conv(weights="Float"), gemm()).ran["conv1"] == "fp32"


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"Bindings": []}', '{"Layers": null}'])
def test_what_is_no_engine_information_is_an_integrity_error(text: str) -> None:
    with pytest.raises(IntegrityError):
        parse_engine(text)


def test_names_alone_tell_no_precision() -> None:
    with pytest.raises(IntegrityError, match="without detailed profiling verbosity"):
        parse_engine(json.dumps({"Layers": ["conv1 + relu1", "fc"]}))


class TestGate:
    def test_all_as_planned(self) -> None:
        gate = judge_precision("trt", "fp16", receipt(conv(), gemm()), PLAN)
        assert gate.verdict == "pass"
        assert gate.reason == "every compute layer ran in fp16 (fp16 x2)"
        assert gate.numbers["reformats"] == 0
        assert gate.numbers["tf32"] is False

    def test_a_tenth_may_stay_and_is_named(self) -> None:
        gate = judge_precision("trt", "fp16", receipt(conv(), gemm(words="Float")), PLAN)
        assert gate.verdict == "pass"
        assert gate.reason.endswith("not as planned: fc")
        assert gate.numbers["higher"] == ("fc",)

    def test_the_planted_fault_fp16_that_ran_fp32(self) -> None:
        gate = judge_precision("trt", "fp16", receipt(conv(weights="Float"), gemm()), PLAN)
        assert gate.verdict == "fail"
        assert "only 10% of the MACs planned in fp16" in gate.reason

    def test_silence_is_not_a_pass(self) -> None:
        assert judge_precision("trt", "fp16", receipt(gemm()), PLAN).verdict == "fail"

    def test_int8_needs_half_of_its_macs_integer(self) -> None:
        plan = (Layer("conv1", "Conv", "int8", 400), Layer("fc", "Gemm", "fp16", 600))
        ran = receipt(conv(weights="Int8"), gemm(), plan=plan)
        assert judge_precision("trt", "int8", ran, plan).verdict == "fail"
        more = (Layer("conv1", "Conv", "int8", 600), Layer("fc", "Gemm", "fp16", 400))
        gate = judge_precision("trt", "int8", receipt(conv(weights="Int8"), gemm(), plan=more), more)
        assert gate.verdict == "pass"
        assert gate.numbers["int8_share"] == 0.6

    def test_names_that_are_not_unique_prove_nothing(self) -> None:
        plan = (Layer("c", "Conv", "fp16", 10**9), Layer("c", "Conv", "fp16", 1), Layer("d", "Conv", "fp16", 1000))
        ran = replace(receipt(conv(), gemm()), ran={"c": "fp32", "d": "fp16"}, layers={"fp32": 1, "fp16": 1})
        assert judge_precision("trt", "fp16", ran, plan).verdict == "fail"

    def test_layers_without_macs_count_too(self) -> None:
        plan = (Layer("c", "Conv", "fp16", 1000), *(Layer(f"m{index}", "MatMul", "fp16") for index in range(20)))
        ran = {"c": "fp16", **{f"m{index}": "fp32" for index in range(20)}}
        found = replace(receipt(conv(), gemm()), ran=ran, layers={"fp16": 1, "fp32": 20})
        assert judge_precision("trt", "fp16", found, plan).verdict == "fail"

    def test_a_plan_without_the_claimed_precision_fails(self) -> None:
        plan = (Layer("conv1", "Conv", "fp16", 1), Layer("fc", "Gemm", "fp16", 1))
        assert judge_precision("trt", "fp32", receipt(conv(), gemm(), plan=plan), plan).verdict == "fail"
