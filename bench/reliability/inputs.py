"""The good inputs that cases damage: a scene in every format, a network for it."""

from pathlib import Path
from typing import Any

import numpy as np

BANDS, ROWS, COLUMNS, SCALE = 6, 16, 20, 2
PEAK = 4000.0
SMALL = ["--scale", SCALE, "--channels", 16, "--blocks", 1, "--patch", 4, "--batch-size", 2, "--steps", 1]
FORMATS = (
    *("counts.mat", "compressed.mat", "v73.mat", "counts.npy", "counts.npz", "folder"),
    *("own.mat", "own.npy", "own.npz"),
)


def counts(seed: int = 0) -> np.ndarray:
    """(B, H, W) uint16: smooth, as images are, and no two bands alike."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:ROWS, 0:COLUMNS]
    waves = generator.uniform(0.05, 0.4, (BANDS, 2, 1, 1))
    smooth = np.sin(waves[:, 0] * rows + waves[:, 1] * columns) + 1.2
    noisy = smooth + generator.uniform(0, 0.1, smooth.shape)
    return np.round(noisy / noisy.max() * PEAK).astype(np.uint16)


def write_all(folder: Path) -> None:
    """A file, or a folder, for every one of `FORMATS`, and "net.safetensors"."""
    import h5py
    import imageio.v3 as imageio
    import scipy.io
    import torch

    from lkcanet.data import scene_from_array, write_scene
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
    for suffix in ("mat", "npy", "npz"):
        write_scene(folder / f"own.{suffix}", scene)
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


def scene_command(command: str, scene: Path, good: Path, outputs: Path) -> list[Any]:
    """The command line that has a command read a scene of 6 bands."""
    net = good / "net.safetensors"
    return {
        "info": ["info", scene, "--json"],
        "degrade": ["degrade", scene, outputs / "lr.npy", "--scale", SCALE],
        "evaluate": ["evaluate", scene, "-c", net, "--json"],
        "evaluate --prediction": ["evaluate", good / "own.npz", "--scale", SCALE, "--prediction", scene],
        "super-resolve": ["super-resolve", scene, outputs / "sr.npz", "-c", net, "--peak", PEAK],
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
