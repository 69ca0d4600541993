"""The plan of an int8 export: what was decided, as artifact.json keeps it, and read back to make the same again."""

from __future__ import annotations

from pathlib import Path

from ...calibration.choice import Calibrated, Choice
from ...calibration.ranges import ALL_METHODS
from ...config import read_json
from ...errors import UsageError, one_line
from ..backends.graph.layers import list_layers


def read_plan(path: Path, calibrated: Calibrated) -> Choice:
    """The choice that an earlier export recorded.

    Raises:
        UsageError: no artifact.json of an int8 export there, or one of another model.
    """
    choice, plan = parse_plan(path)
    known = {layer.name for layer in list_layers(calibrated.graph)}
    if plan != known:
        raise UsageError(f"{path} is the plan of another model: {len(plan ^ known)} layers differ")
    return choice


def parse_plan(path: Path) -> tuple[Choice, frozenset[str]]:
    """The choice that an earlier export recorded, and the names of its layers.

    Raises:
        UsageError: no artifact.json of an int8 export there.
    """
    data = read_json(path / "artifact.json" if path.is_dir() else path)
    try:
        made, plan = data["options"]["int8"], {layer["name"]: layer for layer in data["plan"]}
        facts = [made["bias_correction"], *(made.get(one, False) for one in ("equalised", "adaround", "blocks"))]
        if made["method"] not in ALL_METHODS or made["weight_bits"] not in (7, 8):
            raise ValueError(f"method {made['method']!r}, weight_bits {made['weight_bits']!r}")
        if not all(isinstance(one, bool) for one in facts) or len(plan) != len(data["plan"]):
            raise ValueError(f"true or false is expected, got {facts}, and each layer once")
        if not all(isinstance(layer["reason"], str) for layer in plan.values()):
            raise ValueError("the reason of a layer is no text")
        keep = {name: layer["reason"] or "plan" for name, layer in plan.items() if layer["precision"] != "int8"}
        corrected, equal, rounded, blocks = facts
        choice = Choice(made["method"], corrected, equal, rounded, made["weight_bits"], blocks, keep=keep)
        return choice, frozenset(plan)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path} holds no int8 plan ({one_line(error)})", fix="give the artifact.json of one"
        ) from error


def measured_before(path: Path) -> dict[str, object]:
    """What the export that made a plan measured: it may be about to be replaced by one that measures nothing."""
    made = read_json(path / "artifact.json" if path.is_dir() else path)["options"]["int8"]
    before = {key: made[key] for key in ("timed", "climb", "confirmed", "costs", "given_back") if key in made}
    return {"measured_before": made.get("measured_before", before)}


def engine_of(path: Path) -> str:
    """Torch's engine that a plan's own file needs; "" for none."""
    made = read_json(path / "artifact.json" if path.is_dir() else path)["options"]
    return str(made.get("engine", ""))


def as_mapping(choice: Choice) -> dict[str, object]:
    """What artifact.json says of a choice; its layers are in the plan."""
    return {
        "method": choice.method,
        "bias_correction": choice.bias_correction,
        "equalised": choice.equalised,
        "adaround": choice.adaround,
        "weight_bits": choice.weight_bits,
        "blocks": choice.blocks,
        "kept_float": len(choice.keep),
    }
