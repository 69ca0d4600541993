"""Files against a file, timed by zoo's own engine as `--int8` times its candidates."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zoo.exporter.backends.infos import backend_info
from zoo.exporter.timing.engine import measure
from zoo.exporter.timing.openers import candidate_subject
from zoo.exporter.timing.setup import SELECT, Subject
from zoo.exporter.timing.statistics import Measurement, round_ratios
from zoo.models.spec import ModelSpec, Preprocess, numbered_labels

REFERENCE = "reference"
ROUNDS = 6  # each of two processes


def subject_of(name: str, content: bytes, shape: Sequence[int], backend: str, folder: Path) -> Subject:
    """A file of a backend, batch of one, written where a worker reads it."""
    folder.mkdir()
    (folder / backend_info(backend).model).write_bytes(content)
    channels, height, width = shape
    spec = ModelSpec("timed", (channels, height, width), Preprocess(crop=(height, width)), numbered_labels(1), False)
    return candidate_subject(name, backend, folder, spec)


def measured(
    files: Mapping[str, bytes], shape: Sequence[int], backend: str = "onnx", operators: int = 0
) -> dict[str, Measurement]:
    """The files by name, timed in the same rounds; none leaves."""
    with tempfile.TemporaryDirectory() as place:
        subjects = [
            subject_of(name, content, shape, backend, Path(place) / str(index))
            for index, (name, content) in enumerate(files.items())
        ]
        return measure(subjects, replace(SELECT, rounds=ROUNDS, leave_after=0, operators=operators))


def ratios(
    reference: bytes, files: Mapping[str, bytes], shape: Sequence[int], backend: str = "onnx"
) -> dict[str, list[float]]:
    """The reference's time over each file's, one ratio a round."""
    found = measured({REFERENCE: reference, **files}, shape, backend)
    return {name: list(round_ratios(found[REFERENCE], found[name])) for name in files}


def candidates(backend: str, model, calibrated, choices: Mapping[str, object]) -> dict[str, bytes]:
    """Files of int8 choices, and with None the float one, as the backend writes them to be timed."""
    from zoo.exporter.backends.registry import get_backend

    made: dict[str, bytes] = {}
    for name, choice in choices.items():
        with tempfile.TemporaryDirectory() as place:
            get_backend(backend).write_candidate(model, calibrated, choice, Path(place))  # pyright: ignore[reportArgumentType]
            made[name] = (Path(place) / backend_info(backend).model).read_bytes()
    return made
