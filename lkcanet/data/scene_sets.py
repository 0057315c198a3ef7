"""Sets of scenes: which files a folder, a list or a command line names, and whether they fit together."""

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.data.formats import envi
from lkcanet.data.formats.dlr import is_quality
from lkcanet.data.formats.kinds import FILES, holds_png, is_scene_folder
from lkcanet.data.formats.png import image_folder
from lkcanet.data.formats.readers import read_scene
from lkcanet.data.prepared import is_prepared, prepared_scene
from lkcanet.data.scenes import Scene, check_positive

__all__ = ["read_scenes", "scene_paths"]

Given = str | os.PathLike[str]


def scene_paths(paths: Sequence[Given]) -> list[Path]:
    """The scenes that paths name, in their order; each is what `read_scene` takes, or a folder of `lkca prepare`.

    | a path | its scenes |
    |---|---|
    | a file, a folder of .png images, a folder of `lkca prepare` | itself |
    | another folder | its entries that are scenes, sorted by name |
    | a list, .txt | what its lines name, in their order |

    A folder of GeoTIFFs of a band each (X_B1.tif, X_B2.tif) and the folder of an EnMAP or DESIS product are one scene,
    as a folder of .png images is. Of another folder's entries these are scenes: .mat, .npy, .npz, GeoTIFF, netCDF and
    HDF5 files; ENVI images (X.dat with X.dat.hdr, or X.hdr with X and a suffix of ENVI's), header and data counting
    once; folders that are one scene, and folders that hold such a folder of images alone, as CAVE is packed
    (NAME/NAME/*.png). A folder that holds no scene and one folder is that. Hidden entries are passed over, others left
    out with a warning. A line of a list is a path, relative to the list's folder; what it names may be anything but
    another list. Empty lines and those that start with # are passed over.

    Args:
        paths: one or more.

    Raises:
        FileNotFoundError: paths that do not exist, all named.
        OSError: a list that is no text.
        ValueError: no path, a folder or a list without scenes, a list in a list, or scenes that are named more than
            once, all of them named: by the same path, through a link, or by ENVI's header and data.
    """
    if isinstance(paths, (str, os.PathLike)):
        raise TypeError(f"paths must be a sequence of paths, got the single path {os.fspath(paths)!r}")
    found = [scene for path in _existing([Path(path) for path in paths], "") for scene in _scenes_of(path)]
    if not found:
        raise ValueError("paths must name at least one scene, got none")
    first: dict[Path, Path] = {}
    repeated = []
    for path in found:
        other = first.setdefault(_identity(path), path)
        if other is not path:
            repeated.append(str(path) if path == other else f"{path} (the same as {other})")
    if repeated:
        raise ValueError(f"scenes are named more than once: {', '.join(repeated)}")
    return found


def read_scenes(
    paths: Sequence[Given], *, one_peak: bool = False, wavelength_tolerance: float = 1.0, **reading: Any
) -> list[Scene]:
    """Read the scenes that `scene_paths` finds, each with `read_scene`, and check that one network can take them all.

    They must have the same number of bands, and where they tell wavelengths these may differ by `wavelength_tolerance`
    at most; sizes may differ. What most of them have (of equally many, what comes first) is what the others are
    measured by. Scenes stay memory-mapped where `read_scene` leaves them so.

    Args:
        paths: see `scene_paths`.
        one_peak: divide all by the largest of their peaks, so that equal values stay equal; each by its own otherwise.
            Scenes of a smaller peak are read a second time. With `peak` it changes nothing.
        wavelength_tolerance: in nm.
        reading: further arguments of `read_scene`, for every scene.

    Raises:
        ValueError: scenes that do not fit, or several that can't be read: all of them named, with what is wrong; a
            tolerance that is not positive and finite; what `scene_paths` raises.
        OSError, ModuleNotFoundError: as `read_scene`; of a single scene that can't be read this is its own error.
    """
    tolerance = check_positive(wavelength_tolerance, "wavelength_tolerance")
    found = scene_paths(paths)
    results = [_attempt(path, reading) for path in found]
    read = check_fit(dict(zip(found, results, strict=True)), tolerance)
    scenes = list(read.values())
    if one_peak and reading.get("peak") is None:
        largest = max(scene.peak for scene in scenes)
        # again from the file: to multiply what is rounded already would round twice
        for index, path in enumerate(found):
            if scenes[index].peak != largest:
                scenes[index] = _read(path, {**reading, "peak": largest})
    return scenes


def check_fit(results: Mapping[Path, Scene | Exception], tolerance: float = 1.0) -> dict[Path, Scene]:
    """The scenes, where one network can take them all; see `read_scenes` for the rule and the errors.

    Args:
        results: of each path its scene (only bands and wavelengths are looked at), or why it can't be read.
        tolerance: of wavelengths, in nm.
    """
    failed = {path: error for path, error in results.items() if isinstance(error, Exception)}
    read = {path: scene for path, scene in results.items() if isinstance(scene, Scene)}
    misfits = _misfits(read, tolerance)
    if failed and not misfits and len({str(error) for error in failed.values()}) == 1:
        raise next(iter(failed.values()))  # of one scene, or of none: an argument
    if failed or misfits:
        unread = [text if str(path) in (text := str(error)) else f"{path}: {text}" for path, error in failed.items()]
        raise ValueError(f"scenes do not fit together: {'; '.join([*unread, *misfits])}")
    return read


def _attempt(path: Path, reading: dict[str, Any]) -> Scene | ValueError | OSError:
    try:
        return _read(path, reading)
    except (ValueError, OSError) as error:
        return error


def _read(path: Path, reading: dict[str, Any]) -> Scene:
    if is_prepared(path):
        path = prepared_scene(path)
    return read_scene(path, **reading)


def _existing(paths: list[Path], where: str) -> list[Path]:
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        what = "no such file or folder" if len(missing) == 1 else "no such files or folders"
        raise FileNotFoundError(f"{where}{', '.join(missing)}: {what}")
    return paths


def _scenes_of(path: Path, *, listed: Path | None = None) -> list[Path]:
    if path.is_dir():
        return [path] if is_prepared(path) else _scenes_in(path)
    if path.suffix.lower() != ".txt":
        return [path]
    if listed is not None:
        raise ValueError(f"{listed}: a list can't hold another list, {path}")
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise OSError(f"{path}: cannot be read as a list of scenes, a path a line: it is no UTF-8 text") from error
    entries = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise ValueError(f"{path}: the list names no scene")
    return [scene for entry in _existing(entries, f"{path}: ") for scene in _scenes_of(entry, listed=path)]


def _scenes_in(folder: Path) -> list[Path]:
    """The scene that a folder is, or those that it holds."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    pairs = dict(_envi_pairs([entry for entry in entries if entry.is_file()]))
    data = {file for files in pairs.values() for file in files}
    scenes, others = [], []
    for entry in entries:
        if entry.is_dir():
            if is_prepared(entry) or is_scene_folder(entry):
                scenes.append(entry)
            elif holds_png(inner := image_folder(entry)):
                scenes.append(inner)
            else:
                others.append(entry)
        elif entry.suffix.lower() in FILES and not is_quality(entry):
            scenes.append(entry)
        elif files := pairs.get(entry):
            # its data have the shorter name, X for X.dat.hdr; of several candidates read_scene finds the right one
            scenes.append(files[0] if len(files) == 1 else entry)
        elif entry not in data:
            others.append(entry)
    scenes = list(dict.fromkeys(scenes))  # data with two headers: read_scene says so
    if is_scene_folder(folder):
        if scenes and holds_png(folder):
            _warn(f"{folder}: is taken as one scene of .png images; left out: {_names(scenes)}")
        return [folder]
    if not scenes and len(inner_folders := [entry for entry in entries if entry.is_dir()]) == 1:
        return _scenes_in(inner_folders[0])  # an archive in a folder of its own name
    if not scenes:
        raise ValueError(f"{folder}: the folder holds no .png image and no scene")
    if others:
        _warn(f"{folder}: left out, since they are no scenes: {_names(others)}")
    return scenes


def _envi_pairs(files: list[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """Headers, each with the files that can be its data."""
    for header in files:
        if header.suffix.lower() == ".hdr":
            base = header.with_suffix("")
            yield (
                header,
                [base]
                if base in files
                else [
                    file
                    for file in files
                    if file.stem == base.name and file.suffix and file.suffix.lower() in envi.SUFFIXES
                ],
            )


def _identity(path: Path) -> Path:
    """The same for all names of a scene."""
    real = path.resolve()
    if real.suffix.lower() == ".hdr":
        files = next((files for _, files in _envi_pairs([real, *_beside(real)])), [])
        return files[0] if len(files) == 1 else real
    return real


def _beside(header: Path) -> list[Path]:
    names = [header.stem, *(header.stem + case for s in envi.SUFFIXES if s for case in (s, s.upper()))]
    return [file for name in names if (file := header.with_name(name)).is_file()]


def _misfits(read: dict[Path, Scene], tolerance: float) -> list[str]:
    """What does not fit, in words, the scenes of the same fault together."""
    if not read:
        return []
    # of equally many the first: Counter keeps the order
    bands = Counter(scene.bands for scene in read.values()).most_common(1)[0][0]
    nanometres = _most_agreed([scene.wavelengths for scene in read.values() if scene.bands == bands], tolerance)
    faults: dict[str, list[str]] = {}
    for path, scene in read.items():
        fault = ""
        if scene.bands != bands:
            fault = f"{scene.bands} band{'s' * (scene.bands > 1)} instead of {bands}"
        elif nanometres is not None and scene.wavelengths is not None:
            apart = float(np.abs(scene.wavelengths - nanometres).max())
            if apart > tolerance:
                low, high, first, last = (*scene.wavelengths[[0, -1]], *nanometres[[0, -1]])
                fault = (
                    f"wavelengths of {low:g} to {high:g} nm, up to {apart:.3g} nm from {first:g} to {last:g} nm of the "
                    f"others (tolerance {tolerance:g})"
                )
        if fault:
            faults.setdefault(fault, []).append(str(path))
    return [f"{', '.join(names)}: {'has' if len(names) == 1 else 'have'} {fault}" for fault, names in faults.items()]


def _most_agreed(known: list[np.ndarray | None], tolerance: float) -> np.ndarray | None:
    """The wavelengths that most of the others are within the tolerance of."""
    rows = [row for row in known if row is not None]
    if not rows:
        return None
    distinct, counts = np.unique(np.array(rows), axis=0, return_counts=True)
    agreed = {row.tobytes(): counts[(np.abs(distinct - row) <= tolerance).all(1)].sum() for row in distinct}
    return max(rows, key=lambda row: agreed[row.tobytes()])  # of equally many the first


def _names(paths: Sequence[Path]) -> str:
    names = [path.name for path in paths]
    return ", ".join(names if len(names) <= 6 else [*names[:5], f"... ({len(names)} in all)"])


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
