"""Writes that fail are told later, and what was written can still be read."""

import errno
import resource
from pathlib import Path

import pytest

from lkcanet.common.held_errors import HeldErrors


def test_a_file_like_others(tmp_path: Path) -> None:
    with HeldErrors(tmp_path / "a") as file:
        assert file.write(b"abcdef") == 6
        assert file.seek(2) == 2
        assert (file.read(3), file.tell()) == (b"cde", 5)
        file.truncate(4)
        file.check()
    assert (tmp_path / "a").read_bytes() == b"abcd"


def test_a_full_disk(tmp_path: Path) -> None:
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, soft[1]))
    try:
        with HeldErrors(tmp_path / "a") as file:
            assert file.write(b"01234567") == 8
            assert file.write(b"89abcdef") == 8  # cut at 10
            assert file.write(b"ghij") == 4
            file.seek(14)
            file.write(b"EF")
            file.truncate(100)
            file.seek(6)
            assert file.read(14) == b"6789abcdEFghij"
            with pytest.raises(OSError, match="File too large") as caught:
                file.check()
            assert caught.value.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    assert (tmp_path / "a").read_bytes() == b"0123456789"
