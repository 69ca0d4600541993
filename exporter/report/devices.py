"""What `zoo profile --json` printed, made ready to be shown: a device a row, what failed, and one sentence.

Reads tolerantly, as rows.py does: a report of a failure must not fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .rows import Problem, count, error_word, hardest

# Of the table, in the page and in the terminal; the first two are of the line, the last two of the device.
COLUMNS = (
    "device", "batch", "p50 ms", "95 % interval of the median", "p99 ms", "first ms", "images/s, mean", "CPU ms", "mJ",
    "MB", "accuracy",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """All nodes of one operator.

    Attributes:
        name: of the operator.
        nodes: name (the model's layer where it is known) and microseconds, the slowest first.
    """

    name: str
    nodes: tuple[tuple[str, float], ...]

    @property
    def microseconds(self) -> float:
        """Of all of them."""
        return sum(time for _, time in self.nodes)


@dataclass(frozen=True)
class Device:
    """One device.

    Attributes:
        id: of its place in the page.
        label: its name.
        data: the device as printed.
        rows: a size of batch each.
        telemetry: what it told.
        kinds: of its operators, the slowest first; none where they were not measured.
        error: why it was not measured; nothing measured is an error too.
    """

    id: str
    label: str
    data: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]
    telemetry: Mapping[str, Any]
    kinds: tuple[Kind, ...]
    error: Mapping[str, Any] | None


def read_devices(result: Mapping[str, Any]) -> list[Device]:
    """A device each, in the order of the result."""
    return [_device(index, one) for index, one in enumerate(result.get("devices") or [])]


def median_of(row: Mapping[str, Any]) -> float | None:
    """Milliseconds."""
    found = (row.get("percentiles") or {}).get("p50")
    return found if isinstance(found, (int, float)) else None


def p99_of(row: Mapping[str, Any]) -> float | None:
    """Milliseconds; None where the runs were too few."""
    return (row.get("percentiles") or {}).get("p99")


def interval_of(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """Of the median."""
    found = row.get("interval") or ()
    return (found[0], found[1]) if len(found) == 2 and None not in found else None


def share_right(device: Device) -> tuple[float, int] | None:
    """The share of right answers, and of how many images."""
    found = device.data.get("accuracy") or ()
    return (found[0] / found[1], found[1]) if len(found) == 2 and None not in found and found[1] else None


def least(devices: Sequence[Device], batch: int) -> tuple[Device, float] | None:
    """The device with the smallest median at a size of batch, where several were measured at it."""
    found = [(device, median) for device in devices for row in device.rows
             if row.get("batch") == batch and (median := median_of(row)) is not None]  # fmt: skip
    return min(found, key=lambda pair: pair[1]) if len(found) > 1 else None


def standing(devices: Sequence[Device]) -> tuple[str, str, str]:
    """Pass where all were measured, fail or inconclusive otherwise; the sentence that says so; what there is besides.

    The sentence is the latency itself where all could be measured. A device that lacks something leaves it
    inconclusive, as in a check.
    """
    bad = [error_word(device.error) for device in devices if device.error]
    verdict = "pass" if devices and not bad else "fail" if hardest(bad or ["error"]) == "error" else "inconclusive"
    if not devices:
        return verdict, "No device was measured", ""
    measured = [device for device in devices if any(median_of(row) is not None for row in device.rows)]
    if bad:
        return verdict, f"{len(bad)} of {count(len(devices), 'device')} could not be measured", latencies(measured)
    if not measured:
        return verdict, f"{count(len(devices), 'device')} measured", ""
    return verdict, latencies(measured), details(measured[0]) if len(measured) == 1 else ""


def latencies(devices: Sequence[Device]) -> str:
    """Return the latency of one device, or the smallest and the largest of several at the smallest size of batch."""
    if not devices:
        return ""
    timed = [(median, device, row) for device in devices for row in device.rows
             if (median := median_of(row)) is not None]  # fmt: skip
    if len(devices) == 1:
        _, device, row = timed[0]
        what = str(device.data.get("artifact") or "The model")
        return f"{what} takes {_milliseconds(row)} for {_images(row)} on {place_of(device)}"
    batches = [batch for _, _, row in timed if isinstance(batch := row.get("batch"), int)]
    at_one = [one for one in timed if one[2].get("batch") == min(batches, default=None)] or timed
    ordered = sorted(at_one, key=lambda one: one[0])
    ends = [f"{_milliseconds(row)} on {place_of(device)}" for _, device, row in (ordered[0], ordered[-1])]
    return f"{count(len(devices), 'device')} measured: from {' to '.join(ends)} for {_images(ordered[0][2])}"


def details(device: Device) -> str:
    """Return how sure the median of a device is, and what its other sizes of batch take."""
    first, *others = [row for row in device.rows if median_of(row) is not None]
    held = interval_of(first)
    parts = [f"median of {count(first['runs'], 'run')}"] if isinstance(first.get("runs"), int) else []
    parts += [f"95 % interval {held[0]:.2f} to {held[1]:.2f} ms"] if held else []
    parts += [f"{_images(row)}: {_milliseconds(row)}" for row in others]
    return ", ".join(parts)


def place_of(device: Device) -> str:
    """Return what a sentence calls a device."""
    return "this machine" if device.data.get("on") == "local" and device.label == "local" else device.label


def _milliseconds(row: Mapping[str, Any]) -> str:
    median = median_of(row) or 0.0
    return f"{median:.3g} ms" if median < 1 else f"{median:.2f} ms"


def _images(row: Mapping[str, Any]) -> str:
    batch = row.get("batch")
    return "one run" if batch is None else "one image" if batch == 1 else f"{batch} images at once"


def problems(devices: Sequence[Device]) -> list[Problem]:
    """The devices that failed, each with its error."""
    return [
        Problem(one.id, one.label, "", error_word(one.error), str(one.error.get("message") or "no reason was given"),
                str(one.error.get("fix") or ""))
        for one in devices if one.error
    ]  # fmt: skip


def throttled(telemetry: Mapping[str, Any]) -> str:
    """What was slowed, or that nothing was, or that the device does not say."""
    found = telemetry.get("throttled") or ()
    if found:
        return "; ".join(map(str, found))
    silent = telemetry.get("silent")
    return "none seen" if silent is not None and "throttling" not in silent else "not available"


def _device(index: int, data: Mapping[str, Any]) -> Device:
    rows = tuple(data.get("rows") or ())
    error = data.get("error") or (None if rows else {"kind": "empty", "message": "nothing was measured", "fix": ""})
    label = str(data.get("device") or f"device {index + 1}")
    return Device(f"d{index}", label, data, rows, data.get("telemetry") or {}, _kinds(data), error)


def _kinds(data: Mapping[str, Any]) -> tuple[Kind, ...]:
    found: dict[str, list[tuple[str, float]]] = {}
    for one in data.get("operators") or ():
        time = one.get("microseconds")
        if isinstance(time, (int, float)):
            name = str(one.get("layer") or one.get("name") or "").rpartition("/")[2]
            found.setdefault(str(one.get("kind") or "unknown"), []).append((name, float(time)))
    made = [Kind(name, tuple(sorted(nodes, key=lambda node: -node[1]))) for name, nodes in found.items()]
    return tuple(sorted(made, key=lambda kind: -kind.microseconds))
