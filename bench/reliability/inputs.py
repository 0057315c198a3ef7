"""The good inputs that cases damage: a scene in every format, a network for it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.data import Protocol, Rect

BANDS, ROWS, COLUMNS, SCALE = 6, 16, 20, 2
PEAK = 4000.0
SMALL = ["--scale", SCALE, "--channels", 16, "--blocks", 1, "--patch", 4, "--batch-size", 2, "--steps", 1]
RUN = [*("--test", ":,12:"), *SMALL[:-1], 3, "--validate-every", 1]
TINY = Protocol(
    name="tiny",
    title="Tiny",
    bands=BANDS,
    shape=(40, 32),
    crop=Rect(0, 40, 0, 32),
    test=Rect(0, 16, 0, 32),
    test_size=16,
    train=Rect(16, 40, 0, 32),
    patches={2: (8, 4)},
    source="bench",
)
FORMATS = (
    *("counts.mat", "compressed.mat", "v73.mat", "counts.npy", "counts.npz", "folder"),
    *("own.mat", "own.npy", "own.npz", "own.hdr", "own.img", "own.tif", "counts.hdr", "counts.img", "counts.tif"),
)


def counts(seed: int = 0, size: tuple[int, int] = (ROWS, COLUMNS)) -> np.ndarray:
    """(B, H, W) uint16: smooth, as images are, and no two bands alike."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    waves = generator.uniform(0.05, 0.4, (BANDS, 2, 1, 1))
    smooth = np.sin(waves[:, 0] * rows + waves[:, 1] * columns) + 1.2
    noisy = smooth + generator.uniform(0, 0.1, smooth.shape)
    return np.round(noisy / noisy.max() * PEAK).astype(np.uint16)


def tiny_image() -> np.ndarray:
    """The published image of the protocol `TINY`."""
    return counts(1, TINY.shape)


def write_all(folder: Path) -> None:
    """A file, or a folder, for every one of `FORMATS`, "net.safetensors", "tiny", a prepared folder, and "run", a
    training that ended in its second step."""
    import h5py
    import imageio.v3 as imageio
    import rasterio
    import scipy.io
    import spectral
    import torch

    from lkcanet.data import prepare, scene_from_array, write_scene
    from lkcanet.models import LKCANet, save_model

    values = counts()
    image = values.transpose(1, 2, 0)
    scipy.io.savemat(folder / "counts.mat", {"scene": image, "note": "generated"})
    scipy.io.savemat(folder / "compressed.mat", {"scene": image, "note": "generated"}, do_compression=True)
    with h5py.File(folder / "v73.mat", "w", userblock_size=512) as file:
        file.create_dataset("scene", data=values.transpose(0, 2, 1))
    with (folder / "v73.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    np.save(folder / "counts.npy", values)
    np.savez(folder / "counts.npz", scene=values)
    (folder / "folder").mkdir()
    for index, band in enumerate(values):
        imageio.imwrite(folder / "folder" / f"band_{index + 1}.png", band)
    waves = np.linspace(400, 900, BANDS)
    scene = scene_from_array(values, wavelengths=waves, name="generated", source="bench")
    for suffix in ("mat", "npy", "npz", "hdr", "tif"):
        write_scene(folder / f"own.{suffix}", scene)
    spectral.envi.save_image(
        str(folder / "counts.hdr"), image, dtype=np.uint16, ext="img", metadata={"wavelength": list(waves)}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no georeference
        shape = {"height": ROWS, "width": COLUMNS, "count": BANDS, "dtype": "uint16"}
        with rasterio.open(folder / "counts.tif", "w", driver="GTiff", **shape) as file:
            file.write(values)
    torch.manual_seed(0)
    model = LKCANet(BANDS, SCALE, 16, 1, reduction=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    facts = {
        "peak": PEAK,
        "step": 7,
        "scene": {"name": "generated", "shape": [BANDS, ROWS, COLUMNS], "wavelengths": list(waves)},
        "split": {"test": f"0:{ROWS},12:{COLUMNS}"},
    }
    save_model(model, folder / "net.safetensors", extra=facts)
    np.save(folder / "tiny.npy", tiny_image())
    prepare(TINY, folder / "tiny.npy", folder / "tiny", scale=SCALE)
    _write_run(folder)


def _write_run(folder: Path) -> None:
    from unittest.mock import patch

    from typer.testing import CliRunner

    from lkcanet.cli import build_app
    from lkcanet.training.module import Module

    def fail_in_the_second_step(self: Module, _: Any) -> None:
        if self.trainer.global_step == 1:
            raise RuntimeError("the second step")

    with patch.object(Module, "on_before_optimizer_step", fail_in_the_second_step):
        arguments = ["train", folder / "counts.npz", "--out", folder / "run", *RUN]
        result = CliRunner().invoke(build_app(), [str(argument) for argument in arguments])
    if result.exit_code != 1 or not (folder / "run" / "state.safetensors").is_file():
        raise RuntimeError(f"the run to resume was not made: {result.output}")


def scene_command(command: str, scene: Path, good: Path, outputs: Path) -> list[Any]:
    """The command line that has a command read a scene of 6 bands."""
    net = good / "net.safetensors"
    return {
        "info": ["info", scene, "--json"],
        "degrade": ["degrade", scene, outputs / "lr.npy", "--scale", SCALE],
        "evaluate": ["evaluate", scene, "-c", net, "--json"],
        "evaluate --prediction": ["evaluate", good / "own.npz", "--scale", SCALE, "--prediction", scene],
        "super-resolve": ["super-resolve", scene, outputs / "sr.npz", "-c", net, "--peak", PEAK, "--overwrite"],
        "view": ["view", scene, "--out", outputs / "view.html"],
        "show": ["show", scene, "-c", net, "--out", outputs / "show.png"],
        "train": ["train", scene, "--test", ":,12:", "--out", outputs / "run", *SMALL],
    }[command]


def same_scene(one: Path, other: Path) -> bool:
    """Whether two files are read as one scene."""
    from lkcanet.data import read_scene

    a, b = read_scene(one), read_scene(other)
    return a.peak == b.peak and all(
        (x is None and y is None) or (x is not None and y is not None and np.array_equal(x, y))
        for x, y in ((a.pixels, b.pixels), (a.wavelengths, b.wavelengths), (a.valid, b.valid))
    )
