"""What to do next about a gate that did not pass: a command to type, or what to look at."""

from __future__ import annotations

from ...errors import quoted

COSTLY = "0.5"  # points of top-1 that the example lets int8 lose


def next_step(gate: str, verdict: str, *, backend: str = "", precision: str = "", data: str = "") -> str:
    """Return the next step as a sentence without a full stop; "" for a gate that needs none.

    Args:
        gate: its name.
        verdict: only `fail` and `inconclusive` have a next step.
        backend: of the artifact.
        precision: of the artifact.
        data: what it was judged on.
    """
    data = quoted(data or "DATA")
    if verdict == "inconclusive":
        return {
            "accuracy": "judge more labelled images with zoo check ARTIFACT --data DATA; the reason says how many",
            "latency": f"zoo check ARTIFACT --data {data} --latency --rounds 24, while nothing else runs",
            "regression": "check again on the same data and the same machine as the baseline",
            "numerics": "zoo check ARTIFACT --data DATA with images that the model was trained for, or train it longer",
        }.get(gate, f"see to what the reason names, then zoo check ARTIFACT --data {data} again")
    if verdict != "fail":
        return ""
    export = f"zoo export SOURCE --to {backend or 'BACKEND'}"
    if gate in ("numerics", "accuracy"):
        return {
            "int8": f"{export} --int8 --data {data} --max-drop {COSTLY} keeps in float the layers that cost most, and "
                    f"zoo sensitivity SOURCE --data {data} --for {backend or 'BACKEND'} shows which they are",
            "fp16": f"{export} --bf16, whose numbers reach as far as those of fp32, or {export} for fp32",
            "bf16": f"{export} for fp32",
        }.get(precision, f"{export} makes it again; if it fails again, look at the layer that is named")  # fmt: skip
    return {
        "consistency": "look at the comparison that failed; an artifact for one image at a time is made with "
                       f"{export} --batch 1",
        "preprocessing": "correct preprocess in the source or in artifact.json as the reason says, then "
                         f"{export} makes it again",
        "labels": "compare the labels in artifact.json with the data's class folders; the source's labels are given "
                  f"in the order of its outputs, then {export} makes it again",
        "latency": f"zoo prune SOURCE --data {data} --latency 0.6 makes the model faster, or allow more in --budget",
        "precision": "zoo doctor shows what this machine runs; judge the artifact on the machine that it is for",
        "regression": "look at what got worse, or take the new result as the baseline",
    }.get(gate, "")  # fmt: skip
