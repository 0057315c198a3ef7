"""Folders that `lkca prepare` makes: a protocol's scene, normalised, and a manifest that says how it came to be."""

# long: a protocol's folder is made and read in one place

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import lkops
from lkcanet.common.files import atomic_folder
from lkcanet.common.runs import CONFIG
from lkcanet.common.ssim import SSIM
from lkcanet.data import sources, sspsr
from lkcanet.data.formats.readers import read_scene
from lkcanet.data.formats.writers import append_record
from lkcanet.data.manifest import (
    FORMAT,
    MANIFEST,
    SCENE,
    SET_FORMAT,
    file_facts,
    fingerprint,
    read_manifest,
    write_manifest,
)
from lkcanet.data.protocols import Placement, Protocol, protocol_named
from lkcanet.data.scenes import Scene, check_positive
from lkcanet.data.set_writer import patch_and_stride
from lkcanet.data.sets import PreparedSet, set_of
from lkcanet.data.splits import Rect, Split, drawn, in_rect, parse_rect, region_split, valid_patches

__all__ = ["MANIFEST", "SCENE", "Prepared", "is_prepared", "load_prepared", "prepare"]

SHARE = 0.1  # of the patches, for validation: the papers' 10 %
_LOWRES = (
    "MATLAB's imresize(gt, 1 / scale), bicubic with antialiasing and mirrored borders (bicubic_downsample), in "
    "float32; every patch and test image is cropped first, then degraded"
)
_LEAK = (
    "drawn at random from all patches, as in the paper: patches overlap, so validation patches share pixels with "
    "training patches and their scores are optimistic; the test images share none"
)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared folder.

    Attributes:
        folder: where it is.
        protocol: its name.
        scale: r.
        scene: the cropped, normalised scene, memory-mapped.
        split: its `test` is the region of the test images, and what the training may read lies outside. With the
            paper's validation `validation` is None and `validation_origins` are patches that overlap training patches.
        tests: the test images.
        manifest: all that `protocol.json` says.
    """

    folder: Path
    protocol: str
    scale: int
    scene: Scene
    split: Split
    tests: tuple[Rect, ...]
    manifest: dict[str, Any]

    @property
    def bands(self) -> int:
        """B."""
        return self.scene.bands

    @property
    def peak(self) -> float:
        """What the scene was divided by, in the units of its file."""
        return self.scene.peak

    @property
    def ssim(self) -> SSIM:
        """Of which SSIM the protocol's scores are, see `lkcanet.evaluation.evaluate`."""
        return "uniform"  # as SSPSR's metrics.py, by which the papers' tables of these images seem to be made

    @property
    def test_names(self) -> tuple[str, ...]:
        """What the test images are called: their places in the scene."""
        return tuple(str(rect) for rect in self.tests)

    def test_scene(self, number: int) -> Scene:
        """The test image of this number, counted from 0; a copy of its pixels."""
        return self.scene.cropped(self.tests[number])


def is_prepared(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder with a manifest."""
    return (Path(path) / MANIFEST).is_file()


def prepare(
    protocol: str | Protocol,
    file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    scale: int = 4,
    key: str | None = None,
    axes: str | None = None,
    columns: Sequence[tuple[int, int]] | None = None,
    peak: float | None = None,
    validation: Literal["patches", "block"] = "patches",
    seed: int = 0,
    lr_size: int | None = None,
    stride: int | None = None,
    patches: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Prepared:
    """Bring the file of a published image into a protocol's form.

    `out` receives `scene.npy`, the cropped scene divided by its peak (float32, to be memory-mapped by `read_scene`),
    and `protocol.json`, the manifest. The folder appears only when complete.

    - Peak: the maximum of the cropped scene, test rows included, as SSPSR's script does it for Chikusei. LKCA-Net does
      not state it for Houston and Pavia; the same rule is the default.
    - Validation "patches": 10 % of the patches, drawn by `seed`, as the paper; they overlap training patches. "block":
      `region_split`'s block of 10 % of the training pixels, which shares no pixel with training patches; patches
      across its border are dropped. Either way patches with an invalid pixel (nodata) are left out.
    - pixels = value / peak in float64, rounded to float32. Float64 values of other files than MATLAB v7.3 and plain
      .npy are rounded to float32 before the division too.
    - MATLAB v7.3 and plain .npy files are read twice (once with `peak`) in blocks of 64 MiB, whatever their size;
      MATLAB v5 to v7 and other files are loaded whole.

    Args:
        protocol: its name, or a `Protocol`.
        file: the image: .mat, .npy, .npz or what else `read_scene` reads from a file.
        out: the folder to make.
        scale: r, one of the protocol's.
        key, axes: of the variable in the file, as in `read_scene`; 3-D only.
        columns: ranges of the file's columns to join, where it has blank ones.
        peak: the normaliser, in the file's units.
        validation: "patches" or "block".
        seed: of the drawn patches.
        lr_size: side of a training patch in LR pixels; the protocol's by default, which is 16 in all published ones:
            in patches of that size half of the taps of a 7 x 7 kernel of dilation 7 never see a pixel.
        stride: step between training patches in HR pixels; by default the protocol's with the protocol's patches, and
            `default_stride` with others.
        patches: write the patches and test images as .mat files as well, for other programs: see `sspsr`.
        overwrite: replace a prepared folder that holds nothing else.
        progress: is called with a line for the user now and then.

    Returns:
        What `load_prepared` gives for the folder.

    Raises:
        ValueError: an unknown protocol or scale, an image of another shape (says what was expected), NaN or infinite
            values, no positive value, or a wrong argument.
        FileExistsError: `out` exists.
        FileNotFoundError, OSError: the file can't be read, or the folder not be written.
    """
    rules = protocol_named(protocol) if isinstance(protocol, str) else protocol
    published, step = rules.patch_and_stride(scale)
    if stride is None and (lr_size is None or scale * lr_size == published):
        stride = step
    patch, stride = patch_and_stride(scale, published // scale if lr_size is None else lr_size, stride)
    if validation not in ("patches", "block"):
        raise ValueError(f"validation must be 'patches' or 'block', got {validation!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number, 0 or more, got {seed!r}")
    given = None if peak is None else check_positive(peak, "peak")
    file, tell = Path(file), progress or (lambda _: None)
    with (
        sources.opened(file, key, axes, rules.key) as source,
        atomic_folder(out, overwrite=overwrite, marker=MANIFEST, own=(SCENE, CONFIG, *sspsr.FOLDERS)) as folder,
    ):
        bands, rows, width = source.shape
        placement = rules.place(bands, rows, width, columns)
        for remark in placement.remarks:
            tell(f"{file}: {remark}")
        tell(f"reading {file}")
        value = _maximum(source, placement) if given is None else given
        scene = _write_scene(folder / SCENE, source, placement, rules, value)
        split, validates = _split(rules, scene, patch, stride, validation, seed)
        manifest = {
            "format": FORMAT,
            "protocol": rules.name,
            "protocol_source": rules.source,
            "scale": scale,
            "source": {
                "path": str(file),
                "files": file_facts(file),
                "key": source.key,
                "axes": axes,
                "shape": [bands, rows, width],
                "transposed": placement.transposed,
                "bands": [0, placement.bands],
                "rows": list(placement.rows),
                "columns": [list(part) for part in placement.columns],
                "remarks": list(placement.remarks),
            },
            "scene": {
                "file": SCENE,
                "shape": list(scene.pixels.shape),
                "axes": "bands, rows, columns; counted from 0, ends excluded, as everywhere here",
                "fingerprint": fingerprint(folder / SCENE),
            },
            "peak": {
                "value": value,
                "rule": "maximum of the cropped scene, test rows included" if given is None else "given by the user",
            },
            "lowres": _LOWRES,
            "test": {"region": str(rules.test), "images": [str(rect) for rect in rules.tests]},
            "train": {"region": str(rules.train), "patch": patch, "stride": stride},
            "validation": validates,
            "patches": split.counts,
            "mat_files": patches,
            "versions": {
                "python": platform.python_version(),
                "lkops": lkops.__version__,
                "numpy": np.__version__,
                "torch": torch.__version__,
            },
        }
        if patches:
            sspsr.write_patches(folder, scene, split, rules.tests, scale, rules.title, tell)
        write_manifest(folder / MANIFEST, manifest)
    return _one_of(Path(out), read_manifest(Path(out)))


def load_prepared(folder: str | os.PathLike[str]) -> Prepared | PreparedSet:
    """Open a folder of `prepare`, or of `prepare_cave` and its like; its scenes are memory-mapped.

    Returns:
        `Prepared` where the protocol is of one scene, `PreparedSet` where it is of many.

    Raises:
        FileNotFoundError: not a folder with a manifest and a scene.
        ValueError: a manifest that was edited, cut short or is of another version, or one that does not belong to the
            scenes beside it. (A scene is known by 64 samples of its file and by its size, so that this takes no time.)
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    return set_of(folder, manifest) if manifest["format"] == SET_FORMAT else _one_of(folder, manifest)


def prepared_scene(folder: str | os.PathLike[str]) -> Path:
    """The file of a prepared folder's one scene.

    Raises:
        ValueError: a set of scenes, and what `load_prepared` raises.
    """
    folder, prepared = Path(folder), load_prepared(folder)
    if isinstance(prepared, PreparedSet):
        files = [folder / entry["file"] for entry in prepared.manifest["scenes"]]
        raise ValueError(
            f"{folder} is a prepared set of {len(files)} scenes, expected one: give its file, as {files[-1]}"
        )
    return folder / SCENE


def _one_of(folder: Path, manifest: dict[str, Any]) -> Prepared:
    scene = read_scene(folder / SCENE)
    shape, train = scene.pixels.shape, manifest["train"]
    region, held = parse_rect(train["region"], shape), manifest["validation"]
    test = parse_rect(manifest["test"]["region"], shape)
    patch, stride = train["patch"], train["stride"]
    if held["kind"] == "block":
        split = region_split(
            shape, test, patch=patch, stride=stride, validation=held["region"], train=region, valid=scene.valid
        )
    else:
        split = _drawn_split(scene, test, region, patch, stride, np.array(held["indices"], np.int64))
    tests = tuple(parse_rect(text, shape) for text in manifest["test"]["images"])
    return Prepared(folder, manifest["protocol"], manifest["scale"], scene, split, tests, manifest)


def _maximum(source: sources.Source, placement: Placement) -> float:
    value = max(float(block.max()) for _, block in source.blocks(placement))
    if value <= 0:
        raise ValueError(f"{source.path}: cannot normalise by the maximum: the largest value is {value:g}; give peak")
    return value


def _write_scene(path: Path, source: sources.Source, at: Placement, rules: Protocol, peak: float) -> Scene:
    shape = (at.bands, *rules.size)
    pixels: np.ndarray = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    with path.open("rb+") as file:
        if hasattr(os, "posix_fallocate"):  # or a full disk would end the process instead of raising an OSError
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    with np.errstate(over="ignore", under="ignore"):
        for index, block in source.blocks(at):
            part = pixels[index]
            np.divide(block, peak, out=part, dtype=np.float64, casting="unsafe")
            if not np.isfinite(part).all():
                raise ValueError(f"{source.path}: values / peak are too large for float32 with peak {peak:g}")
    names, place = source.band_names, source.georeference
    if at.transposed or len(at.columns) > 1:
        place = None  # a georeference has no exchanged or missing columns
    scene = Scene(
        pixels,
        peak,
        None if source.wavelengths is None else source.wavelengths[: at.bands],
        rules.name,
        str(source.path),
        None if names is None else names[: at.bands],
        None if source.valid is None else _placed(source.valid, at),
        place and place.shifted(at.rows[0], at.columns[0][0]),
    )
    with path.open("rb+") as file:
        file.seek(0, os.SEEK_END)
        append_record(file, scene)
        pixels.flush()  # type: ignore[attr-defined]
        os.fsync(file.fileno())
    return scene


def _placed(mask: np.ndarray, at: Placement) -> np.ndarray:
    mask = mask.T if at.transposed else mask
    return np.concatenate([mask[slice(*at.rows), slice(*part)] for part in at.columns], 1)


def _split(
    rules: Protocol, scene: Scene, patch: int, stride: int, validation: str, seed: int
) -> tuple[Split, dict[str, Any]]:
    """The split, and the manifest's word on its validation."""
    if validation == "block":
        split = region_split(
            scene.size,
            rules.test,
            patch=patch,
            stride=stride,
            validation=SHARE,
            train=rules.train,
            valid=scene.valid,
        )
        rule = "a block that shares no pixel with training patches; patches across its border are dropped"
        return split, {"kind": "block", "share": SHARE, "region": str(split.validation), "rule": rule}
    count = len(valid_patches(in_rect(rules.train, patch, stride), patch, scene.valid))
    if count < 2:
        raise ValueError(f"{count} patches of {patch} x {patch} valid pixels: too few to train and to validate")
    held = drawn(count, SHARE, seed)
    split = _drawn_split(scene, rules.test, rules.train, patch, stride, held)
    return split, {"kind": "patches", "share": SHARE, "seed": seed, "rule": _LEAK, "indices": held.tolist()}


def _drawn_split(scene: Scene, test: Rect, train: Rect, patch: int, stride: int, held: np.ndarray) -> Split:
    """Of the patches of valid pixels, in the order of `patch_grid`, those of the indices `held` validate."""
    origins = valid_patches(in_rect(train, patch, stride), patch, scene.valid)
    chosen = np.zeros(len(origins), bool)
    chosen[held] = True
    tests = valid_patches(in_rect(test, patch, patch), patch, scene.valid)
    return Split(scene.size, patch, stride, test, None, origins[~chosen], origins[chosen], tests)
