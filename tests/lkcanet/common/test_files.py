"""atomic_path: whole or absent."""

import errno
import os
import stat
from pathlib import Path

import pytest

from lkcanet.common.files import atomic_path


def test_success_renames_and_leaves_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "scene.npy"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npy"
        assert temporary != target
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [target]


FULL = OSError(errno.ENOSPC, "No space left on device")


def write_half(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise error


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("before", [None, b"old"])
def test_failure_keeps_the_old_file_and_removes_the_temporary(
    tmp_path: Path, error: BaseException, before: bytes | None
) -> None:
    target = tmp_path / "scene.npz"
    if before is not None:
        target.write_bytes(before)
    with pytest.raises(type(error)) as caught:
        write_half(target, error)
    assert caught.value is error
    assert (target.read_bytes() if target.exists() else None) == before
    assert [p for p in tmp_path.iterdir() if p != target] == []


def test_failing_flush_counts_as_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), atomic_path(tmp_path / "a.mat") as temporary:
        temporary.write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_permissions_are_those_of_a_plain_open_or_of_the_replaced_file(tmp_path: Path) -> None:
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_bytes(b"")
    with atomic_path(ours) as temporary:
        temporary.write_bytes(b"")
    assert stat.S_IMODE(ours.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    ours.chmod(0o640)
    with atomic_path(ours) as temporary:
        temporary.write_bytes(b"2")
    assert stat.S_IMODE(ours.stat().st_mode) == 0o640


def test_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.npy", tmp_path / "link.npy"
    real.write_bytes(b"old")
    link.symlink_to(real)
    with atomic_path(link) as temporary:
        temporary.write_bytes(b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_longest_name_is_accepted(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 251 + ".npy")
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"x")
    assert target.read_bytes() == b"x"


def test_missing_folder_and_folder_as_target(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"), atomic_path(tmp_path / "no" / "a.npy"):
        pass
    with pytest.raises(IsADirectoryError, match="it is a folder"), atomic_path(tmp_path):
        pass
