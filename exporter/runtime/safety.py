"""What a model file refers to, read before a runtime opens it: ONNX tensors that lie elsewhere, and pickles.

ONNX is read by protobuf's wire format (protobuf.dev/programming-guides/encoding), since a package's machine has no onnx
package; field numbers are those of onnx.proto3.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from ...errors import IntegrityError
from ..backends.infos import known_info
from .operators import ONNX, ONNX_RUNTIME
from .programs import refuse_acting

DEEPEST = 32
# functions and training steps that a model brings along: no export of ours has them
_REFUSED = {25: "brings functions of its own", 20: "brings steps of training"}
# message -> field -> message: the ways that lead to a tensor
_WAYS: dict[str, dict[int, str]] = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
# What onnx.proto3 knows (onnx 1.23), but for plans of several devices: a field that a reader does not know may be one
# that another reader does.
_KNOWN: dict[str, frozenset[int]] = {
    "model": frozenset((*range(1, 9), 14, *_REFUSED)),
    "graph": frozenset((1, 2, 5, *range(10, 17))),
    "node": frozenset(range(1, 10)),
    "attribute": frozenset((*range(1, 12), 13, 14, 15, *range(20, 24))),
    "tensor": frozenset((*range(1, 15), 16)),
    "sparse": frozenset((1, 2, 3)),
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_OP_TYPE, _DOMAIN = 4, 7
_REPEAT = ("Loop", "Scan", "SequenceMap")
_OPERATORS = {"": ONNX, "ai.onnx": ONNX, "com.microsoft": ONNX_RUNTIME}
_PICKLES = (".pkl", ".pickle", ".pth", ".joblib", ".npy", ".npz", ".ckpt", ".bin", ".dill")


def refuse_dangerous(name: str, content: bytes, backend: str = "") -> None:
    """Raise IntegrityError for a file that could run code or read others when it is opened.

    Args:
        name: in the package.
        content: all of it.
        backend: of the artifact whose model it is, which then says what it holds, whatever it is called.
    """
    lower = name.lower()
    if lower.endswith(_PICKLES) or _is_pickle(content[:2], content[-1:]):
        raise IntegrityError(f"{name} is a pickle, which runs code when it is opened", fix="do not use this package")
    info = known_info(backend) if backend else None
    # by its name and by what opens it: one may say something else than the other
    for form in dict.fromkeys((PurePosixPath(lower).suffix, info.suffix if info is not None else "")):
        if form in _CHECKS:
            _CHECKS[form](name, content)


def _refuse_graph(name: str, content: bytes) -> None:
    for what in _dangers(content):
        raise IntegrityError(f"{name} {what}", fix="do not use this package")


def _refuse_program(name: str, content: bytes) -> None:
    _refuse_no_torchscript(name, content)
    refuse_acting(name, content)


_CHECKS = {".onnx": _refuse_graph, ".pt": _refuse_program}  # what is looked for, by the form of a file


def _is_pickle(start: bytes, end: bytes) -> bool:
    """Protocol 2 and later begin with 0x80 and their number, and every pickle ends with a full stop."""
    return len(start) == 2 and start[0] == 0x80 and 2 <= start[1] <= 5 and end == b"."


def _refuse_no_torchscript(name: str, content: bytes) -> None:
    """TorchScript's archive has its code beside its tensors; torch.load's, which is unpickled, has none."""
    import zipfile  # four milliseconds that an ONNX file need not wait for

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise IntegrityError(f"{name} is no TorchScript archive", fix="do not use this package") from error
    if not any("/code/" in one for one in names) or not any(one.endswith("/constants.pkl") for one in names):
        raise IntegrityError(f"{name} is a pickle of torch.save, no TorchScript archive", fix="do not use this package")


def _dangers(content: bytes) -> Iterator[str]:
    """What a graph does that no classifier of ours needs: other files, loops without end, operators of a stranger."""
    stack: list[tuple[memoryview, str, int]] = [(memoryview(content), "model", 0)]
    while stack:
        message, kind, depth = stack.pop()
        if depth > DEEPEST:
            raise IntegrityError(f"a graph is nested more than {DEEPEST} deep", fix="do not use this package")
        names: dict[int, list[str]] = {_OP_TYPE: [], _DOMAIN: []}  # a field may be there twice: any of them may count
        for number, value in fields(message):
            if number not in _KNOWN[kind]:
                yield f"holds the field {number} in a {kind}, which ONNX does not know"
            elif kind == "tensor":
                if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
                    yield "keeps tensors in other files"
            elif kind == "model" and number in _REFUSED:
                yield _REFUSED[number]
            elif kind == "node" and number in names:
                names[number].append(bytes(_bytes(value)).decode(errors="replace"))
            elif isinstance(value, memoryview) and number in _WAYS[kind]:
                stack.append((value, _WAYS[kind][number], depth + 1))
        if kind == "node":
            yield from _strange(names[_OP_TYPE] or [""], names[_DOMAIN] or [""])


def _strange(types: Sequence[str], domains: Sequence[str]) -> Iterator[str]:
    """What in a node is no operator that is known only to compute."""
    for name, domain in itertools.product(types, domains):
        if domain not in _OPERATORS:
            yield f"holds operators of {domain[:60]!r}, which nobody knows"
        elif name in _REPEAT:
            yield f"holds the operator {name}, which may run without end"
        elif name not in _OPERATORS[domain]:
            yield f"holds the operator {domain}{'.' if domain else ''}{name[:60]}, which is not known only to compute"


def _bytes(value: int | memoryview) -> memoryview:
    return value if isinstance(value, memoryview) else memoryview(b"")


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field: bytes of what has a length, else the integer.

    Raises:
        IntegrityError: not protobuf.
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        if key >> 32:  # a reader in C++ drops what is beyond, and sees another field
            raise _corrupt()
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire == 2:
            length, place = _varint(message, place)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise _corrupt()
        if place + length > len(message) or number == 0:
            raise _corrupt()
        yield number, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    raise _corrupt()


def _corrupt() -> IntegrityError:
    return IntegrityError("an ONNX file is corrupt", fix="get the package again from who made it")
