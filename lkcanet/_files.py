"""Files that are either whole or absent: written beside the target, renamed when complete."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; move it to `path` when the block ends well, remove it when it does not.

    The temporary file lies in the folder of the target (a rename within one file system is atomic) and has the same
    suffix (writers such as `np.save` append theirs where it is missing). It is created empty, with the permissions that
    a plain `open(path, "w")` would give, or those of the file that it replaces. On success it is flushed to the disk
    and renamed. On any exception, KeyboardInterrupt included, it is removed, `path` keeps what it held before, and the
    exception goes on. A symbolic link keeps pointing where it did: the file behind it is replaced.

    Args:
        path: the file to write.

    Yields:
        The temporary path.

    Raises:
        FileNotFoundError: the folder of `path` does not exist.
        IsADirectoryError: `path` is a folder.
        OSError: the folder cannot be written, or what the block raises.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path}: cannot be written, it is a folder")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: cannot be written, the folder {target.parent} does not exist")
    # the name may be as long as the file system allows already: keep only its start
    temporary = target.with_name(f".{target.stem[:40]}-{secrets.token_hex(6)}{target.suffix}")
    try:
        # not tempfile.mkstemp: its files are private (0600) whatever the umask says
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        if target.exists():
            shutil.copymode(target, temporary)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
