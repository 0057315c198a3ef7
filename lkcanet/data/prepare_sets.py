"""`lkca prepare cave` and `lkca prepare folder`: sets of scenes into the form of `PreparedSet`."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lkcanet.data import cave
from lkcanet.data.formats.readers import read_scene
from lkcanet.data.prepared import is_prepared, prepared_scene
from lkcanet.data.scene_sets import check_fit, scene_paths
from lkcanet.data.scenes import Scene, check_positive
from lkcanet.data.set_writer import Member, chosen, patch_and_stride, write_set
from lkcanet.data.sets import PreparedSet, load_set
from lkcanet.data.splits import LEAST, Rect, whole_pixels

__all__ = ["prepare_cave", "prepare_folder"]


def prepare_cave(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    scale: int = 4,
    validation: Sequence[str] | str | float | None = cave.VALIDATION,
    seed: int = 0,
    lr_size: int | None = None,
    stride: int | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> PreparedSet:
    """Bring the CAVE set into SSPSR's protocol: 20 scenes to train, 12 to be tested on, all whole.

    `out` receives `train/NAME.npy` and `test/NAME.npy`, the scenes divided by the full scale of their images (65535,
    or 255 where they have 8 bits), float32, to be memory-mapped by `read_scene`, and `protocol.json`, the manifest.
    The folder appears only when complete.

    Args:
        folder: the set: NAME/*.png, or NAME/NAME/*.png as it is published.
        out: the folder to make.
        scale: r, 4 or 8.
        validation: scenes out of the 20, with or without the "_ms" of their names; or a share of them, drawn by
            `seed`; None trains on all 20.
        seed: of drawn validation scenes.
        lr_size: side of a training patch in LR pixels, 32 by default. (SSPSR's scripts do not give it for CAVE. In
            patches of 16 half of the taps of a 7 x 7 kernel of dilation 7 never see a pixel.)
        stride: step between training patches in HR pixels; by default `default_stride`, which meets every phase of
            the sampling.
        overwrite: replace a prepared folder that holds nothing else.
        progress: is called with a line for the user now and then.

    Returns:
        What `load_prepared` gives for the folder.

    Raises:
        ValueError: another scale, images of another count, size or kind, validation scenes that are none of the 20 or
            leave none, or a wrong argument.
        FileExistsError: `out` exists.
        FileNotFoundError, OSError: scenes are missing (names them), can't be read, or the folder not be written.
    """
    folder = Path(folder)
    if scale not in cave.SCALES:
        raise ValueError(f"scale must be {' or '.join(map(str, cave.SCALES))} in protocol cave, got {scale!r}")
    patch, stride = patch_and_stride(scale, cave.LR_SIZE if lr_size is None else lr_size, stride)
    if patch > min(cave.SIZE):
        raise ValueError(
            f"a patch must be {min(cave.SIZE) // scale} LR pixels or less at scale {scale}, got {patch // scale}"
        )
    held, drawn = chosen(cave.TRAIN, validation, "validation", seed)
    if len(held) == len(cave.TRAIN):
        raise ValueError("validation must leave scenes to train on")
    folders = cave.cave_folders(folder)
    members = []
    for name in (*cave.TRAIN, *cave.TEST):
        part = "test" if name in cave.TEST else "validation" if name in held else "train"
        members.append(Member(name, part, folders[name], partial(cave.read_cave, folders[name], name)))
    facts = {
        "protocol": "cave",
        "protocol_source": cave.SOURCE,
        "scale": scale,
        "source": {"path": str(folder)},
        "peak": {"rule": "full scale of each scene's PNG images: 65535 of 16 bits, 255 of 8"},
        "validation": drawn,
        "train": {"patch": patch, "stride": stride},
        "ssim": cave.MSSIM,
    }
    write_set(out, members, facts, overwrite, progress)
    return load_set(out)


def prepare_folder(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    test: Sequence[str] | str | float,
    validation: Sequence[str] | str | float | None = 0.1,
    scale: int = 4,
    peak: float | Literal["common", "each"] = "common",
    seed: int = 0,
    lr_size: int = cave.LR_SIZE,
    stride: int | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
    **reading: Any,
) -> PreparedSet:
    """Bring any set of scenes of the same bands into the form of `prepare_cave`: whole scenes train, validate or are
    tested on, and no pixel is shared.

    Scenes may be of different sizes; of each the first rows and columns that make whole LR pixels are kept. They are
    all read before anything is written, one at a time, and those that don't fit are named together.

    Args:
        folder: holds the scenes, as `lkcanet.data.scene_paths` finds them: files, or folders of PNG images. A scene
            is named after its file without the suffix, or after its folder.
        out: the folder to make, as in `prepare_cave`.
        test: the scenes to be tested on, by name, or a share of all, drawn by `seed`.
        validation: the same of those that are left; None validates on none.
        scale: r.
        peak: what the scenes are divided by, in their units: one number for all; "common": the largest of the peaks
            that `read_scene` gives the scenes that are not tested on, for all, so that equal values stay equal;
            "each": every scene by its own.
        seed: of drawn scenes.
        lr_size, stride, overwrite, progress: as in `prepare_cave`.
        reading: further arguments of `read_scene`, for every scene.

    Returns:
        What `load_prepared` gives for the folder.

    Raises:
        ValueError: scenes that don't fit together (bands, wavelengths), that can't be read or that are too small (all
            named), two of the same name, names of no scene, nothing left to train on, or a wrong argument.
        FileExistsError: `out` exists.
        FileNotFoundError, OSError: the folder or a scene can't be read, or the folder not be written.
    """
    folder, tell = Path(folder), progress or (lambda _: None)
    if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
        raise ValueError(f"scale must be a whole number, 1 or more, got {scale!r}")
    patch, stride = patch_and_stride(scale, lr_size, stride)
    if peak not in ("common", "each"):
        peak = check_positive(peak, "peak (a number, 'common' or 'each')")
    if test is None:
        raise ValueError("test must name scenes, or be a share of them, got None")
    paths = _named(scene_paths([folder]), folder)
    tested, drawn = chosen(list(paths), test, "test", seed)
    rest = [name for name in paths if name not in tested]
    held, also_drawn = chosen(rest, validation, "validation", seed)
    if not set(rest) - set(held):
        raise ValueError(
            f"{folder}: of {len(paths)} scenes {len(tested)} are tested on and {len(held)} validate: none trains"
        )
    parts = {name: "test" if name in tested else "validation" if name in held else "train" for name in paths}
    if isinstance(peak, float):
        reading["peak"] = peak
    found: dict[Path, Scene | Exception] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name, path in paths.items():
        tell(f"looking at {path}")
        try:
            scene = read_scene(_file(path), **reading)
        except (ValueError, OSError) as error:
            found[path] = error
            continue
        sizes[name] = scene.size
        corner = np.ascontiguousarray(scene.pixels[:, :1, :1])  # one scene at a time is in memory
        found[path] = replace(scene, pixels=corner, valid=None)
    fitting = check_fit(found)
    _check_sizes(sizes, parts, patch, scale)
    rule = {"common": "the largest peak of the scenes that are not tested on", "each": "each scene's own"}
    if peak == "common":
        reading["peak"] = max(fitting[path].peak for name, path in paths.items() if parts[name] != "test")
    facts = {
        "protocol": "folder",
        "protocol_source": "",
        "scale": scale,
        "source": {"path": str(folder)},
        "peak": {"rule": rule.get(str(peak), "given by the user")},
        "test": drawn,
        "validation": also_drawn,
        "train": {"patch": patch, "stride": stride},
        "ssim": "uniform",
    }
    members = [
        Member(name, parts[name], path, partial(_read, path, name, scale, reading)) for name, path in paths.items()
    ]
    write_set(out, members, facts, overwrite, progress)
    return load_set(out)


def _named(paths: Sequence[Path], folder: Path) -> dict[str, Path]:
    names: dict[str, Path] = {}
    for path in paths:
        name = path.name if path.is_dir() else path.stem
        if name in names:
            raise ValueError(f"{folder}: two scenes are called {name}: {names[name]} and {path}")
        names[name] = path
    return names


def _file(path: Path) -> Path:
    return prepared_scene(path) if is_prepared(path) else path


def _check_sizes(sizes: dict[str, tuple[int, int]], parts: dict[str, str], patch: int, scale: int) -> None:
    """Raise where scenes hold no training patch, or too few whole LR pixels to be scored."""
    least = {"train": patch, "validation": LEAST + -LEAST % scale, "test": LEAST + -LEAST % scale}
    small = [
        f"{name} ({rows} x {columns}, {parts[name]}: {least[parts[name]]})"
        for name, (rows, columns) in sizes.items()
        if min(rows // scale, columns // scale) * scale < least[parts[name]]
    ]
    if small:
        raise ValueError(
            f"scenes are smaller than a patch of {patch // scale} LR pixels, or than what is scored, at scale {scale} "
            f"(rows x columns, and how many are needed): {', '.join(small)}"
        )


def _read(path: Path, name: str, scale: int, reading: dict[str, Any]) -> Scene:
    scene = replace(read_scene(_file(path), **reading), name=name)
    whole = Rect(0, scene.size[0], 0, scene.size[1])
    part = whole_pixels(whole, scale, f"the scene {name}")
    return scene if part == whole else scene.cropped(part)
