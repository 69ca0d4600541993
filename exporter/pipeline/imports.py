"""All modules of a user's own that a factory's module imports, however far away, read without running any of them.

A name is looked up as a pipeline's command would: in the pipeline's folder first, then along PYTHONPATH, then where an
editable installation points. Installed packages, Python's own modules and zoo itself are left out: keys hold versions
and code of those. What a module reads that it does not import, and names that are put together at run time, cannot be
known; where a module imports by such a name, all modules of its folder count.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import all_suffixes
from pathlib import Path

from ...models.user_code import INSTALLED, OURS, STANDARD

FACTORY = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_]\w*")
LIBRARIES = ("torchvision", "timm")  # their models have names of this form too
CALLS = ("import_module", "__import__")


@dataclass(frozen=True)
class Module:
    """One module that was found.

    Attributes:
        dotted: its name.
        file: that Python would load.
        root: the folder that its name counts from.
        package: whether it may hold others.
    """

    dotted: str
    file: Path
    root: Path
    package: bool

    @property
    def name(self) -> str:
        """Its file, from its root: the same wherever that was moved to."""
        return self.file.relative_to(self.root).as_posix()


def factory_of(folder: Path, source: str) -> str:
    """The module:factory that a source of models is, or that the run was trained with which it is; "" for another.

    Args:
        folder: that names of runs are relative to.
        source: as a step gives it.
    """
    facts = folder / source / "run.json"
    if source and facts.is_file():
        try:
            source = str(json.loads(facts.read_text(encoding="utf-8"))["origin"]["source"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return ""
    matched = FACTORY.fullmatch(source)
    return source if matched and matched[1] not in LIBRARIES else ""


def closure(folder: Path, factory: str) -> list[Module]:
    """The module of a factory and all that it imports of the user's own, in the order of their names.

    Args:
        folder: of the pipeline's file.
        factory: module:factory.

    A file that Python cannot parse is one of them, but what it would import is not known.
    """
    roots = (folder, *_given())
    found: dict[str, Module] = {}
    seen: set[str] = set()
    waiting = [factory.partition(":")[0]]
    while waiting:
        dotted = waiting.pop()
        if dotted in seen:
            continue
        seen.add(dotted)
        for one in locate(dotted, roots):
            if one.dotted not in found:
                found[one.dotted] = one
                waiting += imported(one, roots)
    return sorted(found.values(), key=lambda one: (one.name, one.dotted))


def locate(dotted: str, roots: Sequence[Path]) -> list[Module]:
    """A module and the packages above it, as far as they are found among the user's own; a namespace has no file."""
    parts = dotted.split(".")
    if parts[0] == OURS or not all(part.isidentifier() for part in parts):
        return []
    for root in roots:  # the first that has it, as Python does it; of a namespace any may have the part that is meant
        if chain := _below(parts, (root,), root):
            return chain
    if parts[0] in sys.stdlib_module_names:
        return []
    return next((chain for root in _editable(parts[0]) if (chain := _below(parts, (root,), root))), [])


def _below(parts: Sequence[str], places: Sequence[Path], root: Path) -> list[Module]:
    chain: list[Module] = []
    for count, part in enumerate(parts, 1):
        dotted, nearer = ".".join(parts[:count]), []
        for place in places:
            package, module = _file(place / part, "__init__"), _file(place, part)
            if package is not None or module is not None:
                file = package or module
                assert file is not None
                chain.append(Module(dotted, file, root, package is not None))
                nearer = [place / part] if package is not None else []
                break
            if (place / part).is_dir():
                nearer.append(place / part)
        if not nearer:
            break
        places = nearer
    return chain


def _file(place: Path, stem: str) -> Path | None:
    return next((path for end in all_suffixes() if (path := place / f"{stem}{end}").is_file()), None)


def imported(module: Module, roots: Sequence[Path]) -> list[str]:
    """Dotted names that a module's file imports, anywhere in it; some may be no modules but names inside of one."""
    if module.file.suffix != ".py":
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in strings that are not ours to mend
            tree = ast.parse(module.file.read_bytes())
        return list(_imported(tree, module, roots))
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return []


def _imported(tree: ast.Module, module: Module, roots: Sequence[Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(f"{'.' * node.level}{node.module or ''}", module)
            if base:
                yield base
            for one in node.names if base else ():
                if one.name != "*":
                    yield f"{base}.{one.name}"
                else:
                    yield from (f"{base}.{name}" for name in _all_of(base, roots))
        elif isinstance(node, ast.Call) and _called(node.func) in CALLS:
            first = next(iter([*node.args, *(one.value for one in node.keywords if one.arg == "name")]), None)
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield _absolute(first.value, module)
            else:
                yield from _beside(module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _named(node.value, module)


def _named(text: str, module: Module) -> Iterator[str]:
    """What a text in the code may name: a module, its file, or a folder that sys.path gets; most name none of ours.

    Python can be told in many ways to run a file. A result that is made once more because a word happens to be the name
    of a module costs less than one that is kept though its code changed.
    """
    dotted = text.removesuffix(".py").strip("./").replace("/", ".")
    if not dotted or not re.fullmatch(r"[\w./-]{1,200}", text):
        return
    yield dotted
    for place in {module.root / text, module.file.parent / text}:
        if place.is_dir():
            yield from (f"{dotted}.{one.stem}" for one in sorted(place.glob("*.py")))


def _absolute(name: str, module: Module) -> str:
    """A name as it is imported in a module, counted from a root; "" where it would lie above one."""
    rest = name.lstrip(".")
    level = len(name) - len(rest)
    if not level:
        return rest
    package = module.dotted.split(".")
    package = package[: len(package) - level + (1 if module.package else 0)]
    return ".".join([*package, *([rest] if rest else [])]) if package else ""


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _all_of(package: str, roots: Sequence[Path]) -> list[str]:
    """The names in a package's __all__, which `import *` imports where they are modules."""
    chain = locate(package, roots)
    if not chain or chain[-1].dotted != package or not chain[-1].package:
        return []
    try:
        tree = ast.parse(chain[-1].file.read_bytes())
        return [
            one.value
            for node in tree.body
            if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__all__" for target in node.targets)
            for one in getattr(node.value, "elts", ())
            if isinstance(one, ast.Constant) and isinstance(one.value, str)
        ]
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return []


def _beside(module: Module) -> Iterator[str]:
    """All modules of the folder that a module lies in: which of them a name means is only known when it runs."""
    above = module.dotted if module.package else module.dotted.rpartition(".")[0]
    for path in sorted(module.file.parent.iterdir()):
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            yield ".".join(filter(None, (above, path.stem if path.stem != "__init__" else "")))


def _given() -> list[Path]:
    """Folders of PYTHONPATH that hold code of the user's own."""
    places = [Path(one) for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    return [one.absolute() for one in places if not _is_installed(one.absolute())]


@cache
def _editable(top: str) -> tuple[Path, ...]:
    """Folders that hold a module which was installed as a link to where somebody works on it."""
    try:
        spec = importlib.util.find_spec(top)  # of a name without dots: nothing is run
    except (ImportError, ValueError, AttributeError):
        return ()
    if spec is None:
        return ()
    places = [Path(one) for one in spec.submodule_search_locations or ([spec.origin] if spec.has_location else [])
              if one]  # fmt: skip
    return tuple(one.parent for one in places if not _is_installed(one))


def _is_installed(path: Path) -> bool:
    return any(part in INSTALLED for part in path.parts) or str(path).startswith(STANDARD)
