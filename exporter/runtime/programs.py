"""TorchScript read without running it: a program that names an operator which does more than compute is refused.

Its archive has the code as text in the grammar of Python (torch/csrc/jit/serialization/python_print.cpp). Each call
must be of an operator of the allow-list, of a module's forward, or of one of a few builtins. Methods of other names are
refused: `x.save("a file")` of a tensor is the operator aten::save, whatever else the archive calls so. Loading can run
code too (`__setstate__`), so every function is read.
"""

from __future__ import annotations

import ast
import io
import lzma
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator

from ...errors import IntegrityError, one_line
from .operators import ATEN, BUILTIN, NAMESPACES

LARGEST_CODE = 64 << 20  # characters of one archive's code
_CLASSES = "__torch__.torch.classes."
_KNOWN_CLASSES = f"{_CLASSES}quantized."
_LIBRARIES = frozenset(("torch", "ops", "__torch__"))
END_OF_ZIP = 22  # bytes of the end record without a comment
_METHOD = re.compile(r"forward\d*")
_FIX = "do not use this package; a model of your own: export it to onnx, which is no program"


def refuse_acting(name: str, content: bytes) -> None:
    """Raise IntegrityError for a TorchScript archive whose code could do more than compute.

    Args:
        name: of the file, for the message.
        content: of the archive.
    """
    if found := acts(name, content):
        raise IntegrityError(f"{name} is a program that names {found[0]}, which is not known only to compute", fix=_FIX)


def acts(name: str, content: bytes) -> list[str]:
    """Return what a TorchScript archive's code names that is not known only to compute.

    Raises:
        IntegrityError: it is no such archive, or its code cannot be read.
    """
    try:
        return [what for text in _sources(name, content) for what in _acts(_parsed(name, text))]
    except RecursionError as error:
        raise IntegrityError(f"{name} holds code that is nested too deeply", fix=_FIX) from error


def _sources(name: str, content: bytes) -> Iterator[str]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _refuse_ambiguous(name, content, archive)
            infos = [one for one in archive.infolist() if one.filename.lower().endswith(".py")]
            if sum(one.file_size for one in infos) > LARGEST_CODE:
                raise IntegrityError(f"{name} has more than {LARGEST_CODE >> 20} MB of code", fix=_FIX)
            for one in infos:
                yield archive.read(one).decode("utf-8")
    except (zipfile.BadZipFile, NotImplementedError, ValueError, RuntimeError, EOFError, OSError, zlib.error,
            lzma.LZMAError) as error:  # fmt: skip
        raise IntegrityError(f"{name} is no TorchScript archive ({one_line(error)})", fix=_FIX) from error


def _refuse_ambiguous(name: str, content: bytes, archive: zipfile.ZipFile) -> None:
    """Raise IntegrityError for an archive that torch's reader (miniz) could read otherwise than Python's.

    miniz looks names up without their case, finds the directory by the offset that the end record gives, and passes
    over what lies before the archive; Python does not.
    """
    infos = archive.infolist()
    names = [one.filename.lower() for one in infos]
    code = [one for one in names if "/code/" in one and not one.endswith((".py", ".py.debug_pkl"))]
    odd = [one for one in infos if one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]
    end = content[-END_OF_ZIP:]
    offset = int.from_bytes(end[16:20], "little")
    starts = end[:4] == b"PK\5\6" and (offset == archive.start_dir or offset == 0xFFFFFFFF)
    if (
        len(set(names)) != len(names) or len({one.partition("/")[0] for one in names}) > 1 or code or odd or not starts
        or content[archive.start_dir : archive.start_dir + 4] != b"PK\1\2" or content[:4] != b"PK\3\4"
        or min((one.header_offset for one in infos), default=0) != 0
    ):  # fmt: skip
        raise IntegrityError(f"{name} is an archive that can be read in two ways", fix=_FIX)


def _parsed(name: str, text: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in its texts
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise IntegrityError(f"{name} holds code that cannot be read ({type(error).__name__})", fix=_FIX) from error


def _acts(tree: ast.Module) -> Iterator[str]:
    """What in it is neither an allowed call nor plain data."""
    yield from _rebound(tree)
    called = {id(part) for one in ast.walk(tree) if isinstance(one, ast.Call) for part in _parts(one.func)}
    for one in ast.walk(tree):
        if isinstance(one, ast.Call):
            if not _computes(one.func):
                yield ast.unparse(one.func)[:80]
        elif isinstance(one, ast.Import | ast.ImportFrom | ast.With | ast.Lambda | ast.AsyncFunctionDef | ast.Global):
            yield type(one).__name__.lower()
        elif isinstance(one, ast.Attribute):
            way = _way(one)
            strange = way.startswith(_CLASSES) and not f"{way}.".startswith(_KNOWN_CLASSES)
            if strange or (way.split(".")[0] in ("torch", "ops") and id(one) not in called):
                yield way[:80]


def _rebound(tree: ast.Module) -> Iterator[str]:
    """Names that are called as builtins and mean something else there, and libraries that are taken as values."""
    nodes = list(ast.walk(tree))
    stored = {one.id for one in nodes if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load)}
    stored |= {one.arg for one in nodes if isinstance(one, ast.arg)}
    stored |= {one.name for one in nodes if isinstance(one, ast.FunctionDef | ast.ClassDef)}
    called = {one.func.id for one in nodes if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)}
    yield from sorted(f"{name}, which it makes anew" for name in called & stored & BUILTIN)
    yield from sorted(stored & _LIBRARIES)
    roots = {id(one.value) for one in nodes if isinstance(one, ast.Attribute)}
    for one in nodes:
        if isinstance(one, ast.Name) and one.id in _LIBRARIES and id(one) not in roots:
            yield one.id


def _computes(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id in BUILTIN
    way = _way(function)
    if way:
        first, _, rest = way.partition(".")
        if first == "torch":
            return rest in ATEN
        if first == "ops":
            space, _, operator = rest.partition(".")
            return space in NAMESPACES and ((known := NAMESPACES[space]) is None or operator in known)
        if first == "__torch__":  # a function or class of the archive, whose code is read like all other
            return not way.startswith(_CLASSES) or way.startswith(_KNOWN_CLASSES)
    return isinstance(function, ast.Attribute) and _METHOD.fullmatch(function.attr) is not None


def _parts(expression: ast.expr) -> Iterator[ast.expr]:
    """A name and its beginnings: ops.quantized.linear, ops.quantized, ops."""
    yield expression
    while isinstance(expression, ast.Attribute):
        expression = expression.value
        yield expression


def _way(expression: ast.expr) -> str:
    """`a.b.c` of names alone; "" of anything else."""
    parts: list[str] = []
    while isinstance(expression, ast.Attribute):
        parts.append(expression.attr)
        expression = expression.value
    if not isinstance(expression, ast.Name):
        return ""
    return ".".join([expression.id, *reversed(parts)])
