"""Files that are either whole or absent: written beside the target, renamed when complete."""

import os
import secrets
import shutil
from collections.abc import Collection, Iterator
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


@contextmanager
def atomic_folder(
    path: str | os.PathLike[str], *, overwrite: bool = False, marker: str = "", own: Collection[str] = ()
) -> Iterator[Path]:
    """Give a temporary folder to fill; rename it to `path` when the block ends well, remove it when it does not.

    Args:
        path: the folder to make; its parent must exist.
        overwrite: replace an existing folder, once the new one is complete. Only one that holds the file `marker` and
            nothing besides the names in `own`: what others put there is never removed.
        marker, own: see `overwrite`.

    Yields:
        The temporary folder, beside the target.

    Raises:
        FileExistsError: `path` exists and may not be replaced; raised before the block runs.
        FileNotFoundError: the parent does not exist.
        OSError: the parent cannot be written, or what the block raises.
    """
    target = Path(os.path.realpath(path))
    if target.exists():
        if not overwrite:
            raise FileExistsError(f"{path} exists already: choose another folder or overwrite it")
        if not (target / marker).is_file():
            raise FileExistsError(f"{path} is not overwritten: it holds no {marker}")
        if foreign := sorted({entry.name for entry in target.iterdir()} - {marker, *own}):
            raise FileExistsError(f"{path} is not overwritten: it holds {', '.join(foreign[:3])} besides")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: cannot be written, the folder {target.parent} does not exist")
    stem = f".{target.name[:40]}-{secrets.token_hex(6)}"
    temporary, replaced = target.with_name(stem), target.with_name(stem + "-old")
    try:
        temporary.mkdir()
        yield temporary
        if target.exists():
            target.rename(replaced)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        raise
    shutil.rmtree(replaced, ignore_errors=True)
