"""What is put into a store comes out as it was, or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("fsspec", reason="fsspec comes with the extra ray")
from zoo.errors import IntegrityError, UnavailableError, UsageError
from zoo.exporter.pipeline.cluster.store import Held, Store, from_plain, plain


@pytest.fixture(params=["folder", "file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    place = tmp_path / "store"
    return {"folder": str(place), "file": f"file://{place}", "memory": f"memory://{tmp_path.name}"}[request.param]


NAMES = st.lists(
    st.text("abc.-_ é", min_size=1, max_size=5).filter(lambda one: one.strip(".")), min_size=1, max_size=3
).map("/".join)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(NAMES, st.binary(max_size=200), max_size=6))
def test_what_is_put_comes_out_as_it_was(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("any")
    made: dict[str, bytes] = {}
    for name, content in files.items():
        path = place / "here" / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:  # a name that is a folder already
            continue
        made[name] = content
    (place / "here").mkdir(exist_ok=True)
    store = Store(str(place / "store"))
    tree = store.put(place / "here", sorted({name.partition("/")[0] for name in made}))
    travelled = from_plain(json.loads(json.dumps(plain(tree))))
    Store(str(place / "store")).get(travelled, place / "there")
    found = {str(path.relative_to(place / "there")): path.read_bytes()
             for path in (place / "there").rglob("*") if path.is_file()}  # fmt: skip
    assert found == made


def test_every_kind_of_store(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a").write_bytes(b"a" * 3_000_000)
    (folder / "b").write_bytes(b"")
    store = Store(url)
    tree = store.put(tmp_path, ["run", "absent"])
    assert set(tree) == {"run/inner/a", "run/b"}
    Store(url).get(tree, tmp_path / "other")
    assert (tmp_path / "other/run/inner/a").read_bytes() == b"a" * 3_000_000
    assert (tmp_path / "other/run/b").read_bytes() == b""
    store.tell("me", {"at": 1})
    assert Store(url).told("me") == {"at": 1}
    store.forget("me")
    assert Store(url).told("me") is None
    store.remove()
    with pytest.raises(IntegrityError, match="no longer in store"):
        Store(url).get(tree, tmp_path / "late")
    assert not (tmp_path / "late/run/b").exists()


def test_the_same_content_is_sent_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("same")
    (tmp_path / "b").write_text("same")
    store = Store(str(tmp_path / "store"))
    sent: list[str] = []
    monkeypatch.setattr(
        store, "_name", lambda temporary, final: sent.append(final) or Store._name(store, temporary, final)
    )
    store.put(tmp_path, ["a", "b"])
    store.put(tmp_path, ["a"])
    assert len(sent) == 1


KILLED = """
import os, sys
from pathlib import Path
from zoo.exporter.pipeline.cluster.store import Store
Store._name = lambda self, temporary, final: os._exit(9)
Store(sys.argv[1], "first").put(Path(sys.argv[2]), ["a"])
"""


def test_an_upload_that_dies_before_its_rename_is_never_seen(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("whole")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "store"), str(tmp_path)], env=ENVIRONMENT,
                          check=False)  # fmt: skip
    assert done.returncode == 9
    assert list((tmp_path / "store/unnamed/first").iterdir()), "it died between the upload and the rename"
    assert not (tmp_path / "store/files").exists()
    second = Store(str(tmp_path / "store"), "second")
    tree = second.put(tmp_path, ["a"])
    second.get(tree, tmp_path / "there")
    assert (tmp_path / "there/a").read_text() == "whole"
    second.forget("first")
    assert not (tmp_path / "store/unnamed/first").exists()


@pytest.mark.parametrize("broken", [b"whol", b"other", b""])
def test_a_file_that_is_not_what_was_put_is_refused_and_leaves_nothing(broken: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("whole")
    store = Store(str(tmp_path / "store"))
    tree = store.put(tmp_path, ["a"])
    (one,) = (path for path in (tmp_path / "store/files").rglob("*") if path.is_file())
    one.write_bytes(broken)
    with pytest.raises(IntegrityError, match="a in store .* is not what was put there"):
        store.get(tree, tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []
    if len(broken) != 5:  # of another size: put again, by who has it
        store.put(tmp_path, ["a"])
        store.get(tree, tmp_path / "there")
        assert (tmp_path / "there/a").read_text() == "whole"


@pytest.mark.parametrize("name", ["../a", "/etc/a", "b/../../a", ""])
def test_a_name_never_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    store = Store(str(tmp_path / "store"))
    held = store.put(tmp_path, ["a"])["a"]
    with pytest.raises(IntegrityError, match="is no name in a folder"):
        store.get({name: held}, tmp_path / "inner")


def test_a_file_that_changes_while_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_text("before")
    store = Store(str(tmp_path / "store"))
    temporary = store._temporary

    def meanwhile() -> str:
        path.write_text("after!")
        return temporary()

    monkeypatch.setattr(store, "_temporary", meanwhile)
    with pytest.raises(IntegrityError, match="changed while it was copied"):
        store.put(tmp_path, ["a"])
    assert not (tmp_path / "store/files").exists()


def test_what_a_url_needs_is_said() -> None:
    with pytest.raises(UnavailableError, match="pip install s3fs"):
        Store("s3://bucket/folder")
    with pytest.raises(UsageError, match="store mars://x"):
        Store("mars://x")


def test_a_tree_travels() -> None:
    tree = {"a/b": Held("00" * 32, 7)}
    assert from_plain(json.loads(json.dumps(plain(tree)))) == tree
