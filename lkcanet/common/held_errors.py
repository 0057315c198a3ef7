"""A file whose failed writes are told afterwards, for libraries that do not survive them.

HDF5 2.0 ends the process with a segmentation fault some time after a full disk.
"""

import io
from pathlib import Path


class HeldErrors(io.RawIOBase):
    """A new file that can be read, written and sought. From the first write that fails on all writes are kept in
    memory instead, so that the library that writes goes on; `check` tells.

    Args:
        path: the file; what it held is gone.

    Raises:
        OSError: it can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None
        self._kept: list[tuple[int, bytes]] = []

    def check(self) -> None:
        """Raise the error that the first failed write met."""
        if self._error is not None:
            raise self._error

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data) -> int:  # type: ignore[no-untyped-def]
        piece, start = bytes(data), self._file.tell()
        try:
            done = 0
            while self._error is None and done < len(piece):
                done += self._file.write(piece[done:])
        except OSError as error:
            self._error = error
        if self._error is not None:
            self._kept.append((start, piece))
            self._file.seek(start + len(piece))
        return len(piece)

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        start, view = self._file.tell(), memoryview(buffer).cast("B")
        count = self._file.readinto(view) or 0
        if not self._kept:
            return count
        view[count:] = bytes(len(view) - count)
        for at, piece in self._kept:
            first, last = max(at, start), min(at + len(piece), start + len(view))
            if first < last:
                view[first - start : last - start] = piece[first - at : last - at]
        self._file.seek(start + len(view))
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        if self._error is None:
            try:
                return self._file.truncate(size)
            except OSError as error:
                self._error = error
        return size

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
