"""Data for the runs: prepared folders, or published files that are prepared when they are first needed."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..data import Prepared, PreparedSet, is_prepared, load_prepared, prepare, prepare_cave
from ..data.formats.kinds import FILES
from ..data.prepared import SHARE
from ..data.splits import drawn
from .recipes import Paper

__all__ = ["Material", "fingerprint", "patches_of"]

_SUFFIXES = (*FILES, ".hdr")


class Material:
    """Where the data sets of a paper are.

    Args:
        paper: whose protocols count.
        given: of `--data`: prepared folders, files and folders, each as PATH or NAME=PATH with the protocol's name.
        out: files are prepared into out/prepared.
        wanted: protocols of the rows: a file without a name is of the only one.
        tell: called with lines for the user.

    Raises:
        ValueError: a file without a name where several protocols are wanted, or a name that none has.
        FileNotFoundError: a path that is not there.
    """

    def __init__(
        self,
        paper: Paper,
        given: Sequence[str],
        out: Path,
        wanted: Sequence[str],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.paper, self.out, self.tell = paper, out, tell
        self.folders: dict[tuple[str, int], Path] = {}
        self.raw: dict[str, Path] = {}
        self._open: dict[tuple[str, int], Prepared | PreparedSet] = {}
        for text in given:
            name, equals, rest = text.partition("=")
            path = Path(rest if equals and not Path(text).exists() else text)
            named = name if equals and not Path(text).exists() else None
            if not path.exists():
                raise FileNotFoundError(f"--data {path}: there is no such file or folder")
            if is_prepared(path):
                loaded = load_prepared(path)
                self.folders[loaded.protocol, loaded.scale] = path
                self._open[loaded.protocol, loaded.scale] = loaded
                if named is not None and named != loaded.protocol:
                    raise ValueError(f"--data {text}: the folder was prepared by protocol {loaded.protocol}")
                continue
            if named is None and len(wanted) != 1:
                examples = ", ".join(f"{each}=PATH" for each in wanted)
                raise ValueError(f"--data {path}: say which data set it is, as one of {examples}")
            protocol = wanted[0] if named is None else named
            if protocol not in wanted:
                raise ValueError(f"--data {text}: expected one of {', '.join(wanted)} before the =, got {protocol!r}")
            self.raw[protocol] = path

    @property
    def bands(self) -> dict[str, int]:
        """B of the prepared folders, by protocol."""
        return {protocol: loaded.bands for (protocol, _), loaded in self._open.items()}

    def why_not(self, data: str, scale: int) -> str:
        """Why there is no such data; empty where there is, or where it can be prepared."""
        if (data, scale) in self.folders or data in self.raw or is_prepared(self._folder(data, scale)):
            return ""
        others = [str(other) for protocol, other in self.folders if protocol == data]
        if others:
            return f"--data has {data} prepared at scale {' and '.join(others)} only"
        return f"no --data of {data}"

    def get(self, data: str, scale: int) -> Prepared | PreparedSet:
        """The prepared data set; prepares it where it is missing.

        Raises:
            ValueError: there is none, a file that does not fit the protocol, or a prepared folder in out that was made
                of another file.
        """
        if (data, scale) not in self._open:
            if problem := self.why_not(data, scale):
                raise ValueError(problem)
            self._open[data, scale] = self._prepared(data, scale)
        return self._open[data, scale]

    def there(self, data: str, scale: int) -> Prepared | PreparedSet | None:
        """The data set where it is prepared already; prepares nothing."""
        prepared = (data, scale) in self._open or is_prepared(self._folder(data, scale))
        return self.get(data, scale) if prepared else None

    def _folder(self, data: str, scale: int) -> Path:
        return self.out / "prepared" / f"{data}-x{scale}"

    def _prepared(self, data: str, scale: int) -> Prepared | PreparedSet:
        folder, raw = self._folder(data, scale), self.raw.get(data)
        if is_prepared(folder):
            loaded = load_prepared(folder)
            if raw is not None and (made := _source(loaded)) is not None:
                source = raw if data == "cave" else _file_in(raw)
                if Path(made).resolve() != source.resolve():
                    raise ValueError(f"{folder} was prepared of {made}, --data is {source}: choose another --out")
            return loaded
        assert raw is not None
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.tell(f"preparing {data} x{scale} from {raw} into {folder}")
        if data == "cave":
            return prepare_cave(raw, folder, scale=scale, progress=self.tell)
        protocol = self.paper.protocol(data)
        if protocol is None:
            raise ValueError(f"--data {raw}: {data!r} is no protocol: give a prepared folder of it")
        return prepare(protocol, _file_in(raw), folder, scale=scale, progress=self.tell)


def _source(loaded: Prepared | PreparedSet) -> str | None:
    told = loaded.manifest.get("source", {})
    path: str | None = told.get("path") if isinstance(told, Mapping) else None
    return path


def _file_in(path: Path) -> Path:
    """A file, or the only scene in a folder."""
    if path.is_file():
        return path
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
    if len(found) != 1:
        what = ", ".join(file.name for file in found[:4]) if found else f"no file of {', '.join(_SUFFIXES)}"
        raise ValueError(f"--data {path}: expected one image in the folder, found {what}: give the file")
    return found[0]


def fingerprint(loaded: Prepared | PreparedSet) -> str:
    """By which results tell one data set from another: of pixels, regions and patches, not of where they lie."""
    kept = ("protocol", "scale", "scene", "scenes", "peak", "test", "train", "validation")
    told = {key: loaded.manifest[key] for key in kept if key in loaded.manifest}
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()


def patches_of(paper: Paper, data: str, scale: int, loaded: Prepared | PreparedSet | None) -> tuple[int, int]:
    """Training patches and the side of one in HR pixels: of the prepared folder, else as the protocol has them."""
    if isinstance(loaded, Prepared):
        return loaded.split.counts["train"], loaded.split.patch
    protocol = paper.protocol(data)
    if protocol is None:
        raise ValueError(f"no --data of {data}")
    count = len(protocol.origins(scale))
    return count - len(drawn(count, SHARE, 0)), protocol.patch_and_stride(scale)[0]
