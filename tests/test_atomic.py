from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from zoo import atomic
from zoo.errors import UsageError


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_new_folder_and_a_replaced_one(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "folder"
    for content in ("first", "second"):
        with atomic.staged(final) as place:
            (place / "file").write_text(content)
            assert place.parent == final.parent
        assert tree(final) == {"file": content}
    assert [path.name for path in final.parent.iterdir()] == ["folder"], "no temporary sibling is left"


def test_an_error_leaves_the_old_one(tmp_path: Path) -> None:
    final = tmp_path / "folder"
    with atomic.staged(final) as place:
        (place / "file").write_text("old")
    with pytest.raises(RuntimeError, match="half"), atomic.staged(final) as place:
        (place / "file").write_text("new")
        raise RuntimeError("half way")
    assert tree(tmp_path) == {"folder/file": "old"}


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    final = tmp_path / "folder"
    code = "\n".join(
        [
            "import os, signal, sys",
            "from pathlib import Path",
            "from zoo import atomic",
            "with atomic.staged(Path(sys.argv[1])) as place:",
            "    (place / 'x').write_text('half')",
            "    os.kill(os.getpid(), signal.SIGKILL)",
        ]
    )
    subprocess.run([sys.executable, "-c", code, str(final)], check=False)
    left = list(tmp_path.iterdir())
    assert len(left) == 1
    with atomic.staged(final) as living:
        assert not left[0].exists()
        assert atomic.remove_stale(final) == []
        assert living.exists()


def test_a_users_folder_of_a_like_name_stays(tmp_path: Path) -> None:
    (tmp_path / ".folder.backup.tmp").mkdir()
    with atomic.staged(tmp_path / "folder"):
        pass
    assert (tmp_path / ".folder.backup.tmp").is_dir()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    atomic.write_file(path, b"old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_everything_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (events.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name), real(handle))
    )
    placed = atomic.put_in_place
    monkeypatch.setattr(atomic, "put_in_place", lambda made, final: (events.append("PLACED"), placed(made, final)))
    with atomic.staged(tmp_path / "folder") as place:
        (place / "inner").mkdir()
        (place / "inner" / "a").write_text("a")
        (place / "b").write_text("b")
    before = events[: events.index("PLACED")]
    assert {"a", "b", "inner"} <= set(before)
    assert before.index("a") < before.index("inner")
    assert events[-1] == tmp_path.name, "the parent's entry is synced last"


def test_a_folder_of_somebody_else_is_not_claimed(tmp_path: Path) -> None:
    def ours() -> None:
        atomic.claim(tmp_path / "made", ("a.json", "b.png"), "mark", "thing")

    ours()
    (tmp_path / "made").mkdir()
    ours()
    (tmp_path / "made" / "a.json").write_text("mark")
    ours()
    for name, content in (("a.json", "another"), ("thesis", "x")):
        (tmp_path / "made" / name).write_text(content)
        with pytest.raises(UsageError, match="holds no earlier thing"):
            ours()
    with pytest.raises(UsageError, match="is a file"):
        atomic.claim(tmp_path / "made" / "thesis", ("a.json",), "mark", "thing")


def test_a_full_disk_names_the_file_that_is_cut(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, atomic.naming(tmp_path / "metrics"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "metrics")
    with pytest.raises(OSError, match="own name") as caught, atomic.naming(tmp_path):
        raise OSError(28, "own name", "another")
    assert caught.value.filename == "another"


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic.require_writable(tmp_path / "new" / "newer")
    atomic.require_writable(Path("relative"))
    (tmp_path / "file.py").touch()
    with pytest.raises(UsageError, match="file.py is a file"):
        atomic.require_writable(tmp_path / "file.py" / "model" / "onnx-fp32")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(UsageError, match="may not be written to"):
        atomic.require_writable(tmp_path / "new" / "newer")


def test_what_is_made_beside_a_place_goes_with_a_killed_process(tmp_path: Path) -> None:
    final = tmp_path / "a.zoo"
    script = (
        "import os, sys; from pathlib import Path; from zoo.atomic import beside\n"
        "with beside(Path(sys.argv[1])) as made: made.write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(final)], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".a.zoo.")
    with atomic.beside(final) as made:
        assert list(tmp_path.iterdir()) == [made]
        made.write_text("whole")
        atomic.put_in_place(made, final)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zoo"]
