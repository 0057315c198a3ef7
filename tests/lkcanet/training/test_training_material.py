"""What training reads: patches as validation, invalid pixels left out, memory maps that stay on the disk."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.data import Rect, Scene, SuperResolutionPatches, read_scene
from lkcanet.data.splits import Split
from lkcanet.evaluation.metrics import mpsnr, sam
from lkcanet.models import load_model, load_model_and_extra
from lkcanet.objectives.losses import h_loss
from lkcanet.training import train
from lkcanet.training.material import read_material

from .training_helpers import network, options_of, run, split_of

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")


def in_patches(scene: Scene) -> Split:
    """Every third training patch validates instead."""
    split = split_of(scene, validation=0)
    held = np.arange(len(split.train_origins)) % 3 == 1
    return dataclasses.replace(
        split, train_origins=split.train_origins[~held], validation_origins=split.train_origins[held]
    )


def test_validation_on_patches(scene: Scene, tmp_path: Path) -> None:
    split = in_patches(scene)
    assert len(split.validation_origins) % 4  # the last batch is not full
    result = train(network(), scene, split, options_of(steps=4), tmp_path)
    model = load_model(result.last)
    patches = SuperResolutionPatches(scene, scale=2, lr_size=8, origins=split.validation_origins)
    expected: dict[str, list[float]] = {"loss": [], "mpsnr": [], "sam": []}
    for lowres, target in patches:
        with torch.no_grad():
            image = model(lowres[None])
        expected["loss"].append(float(h_loss(image, target[None], floor=options_of().floor).total))
        expected["mpsnr"].append(mpsnr(image, target[None]))
        expected["sam"].append(sam(image, target[None]))
    for name, values in expected.items():
        assert result.history[-1][name] == pytest.approx(np.mean(values), rel=1e-5), name
    extra = load_model_and_extra(result.last)[1]
    assert extra["split"]["validation"] is None
    assert extra["split"]["validation_patches"] == len(patches)
    again = train(network(), scene, split, options_of(steps=4), tmp_path, resume=True)
    assert again.resumed_from == 4
    other = dataclasses.replace(split, validation_origins=split.validation_origins[::-1].copy())
    with pytest.raises(ValueError, match="patches is"):
        train(network(), scene, other, options_of(steps=4), tmp_path, resume=True)


def test_validation_comes_in_batches(scene: Scene) -> None:
    split = in_patches(scene)
    batches = list(read_material(network(), [scene], [split], 4).validation)
    sizes = [len(target) for _, target in batches]
    assert sum(sizes) == len(split.validation_origins)
    assert set(sizes[:-1]) == {4}
    assert batches[0][0].shape == (4, 8, 8, 8)
    assert torch.equal(
        batches[1][1][2],
        torch.tensor(
            SuperResolutionPatches(scene, scale=2, lr_size=8, origins=split.validation_origins).crop(6).numpy()
        ),
    )


def test_nan_in_a_validation_patch(scene: Scene, tmp_path: Path) -> None:
    split = in_patches(scene)
    pixels, (row, column) = scene.pixels.copy(), split.validation_origins[2]
    split = dataclasses.replace(split, train_origins=split.train_origins[-1:])
    pixels[1, row + 3, column + 5] = np.nan
    with pytest.raises(ValueError, match=r"the validation patch at row \d+, column \d+ holds NaN"):
        train(network(), dataclasses.replace(scene, pixels=pixels), split, options_of(), tmp_path)


def test_patches_with_invalid_pixels_are_left_out(scene: Scene, tmp_path: Path, capsys) -> None:
    valid = np.ones(scene.size, bool)
    valid[17, 3] = False
    masked = dataclasses.replace(scene, valid=valid)
    split = in_patches(scene)

    def touches(origins: np.ndarray) -> np.ndarray:
        return np.array([row <= 17 < row + 16 and column <= 3 < column + 16 for row, column in origins])

    train_bad, held_bad = touches(split.train_origins), touches(split.validation_origins)
    assert 0 < train_bad.sum() < len(train_bad)
    material = read_material(network(), [masked], [split], 4)
    assert material.left_out == {"train": train_bad.sum(), "validation": held_bad.sum()}
    assert np.array_equal(material.patches.parts[0].origins, split.train_origins[~train_bad])
    assert np.array_equal(material.splits[0].validation_origins, split.validation_origins[~held_bad])
    result = train(network(), masked, split, options_of(steps=1, progress=True), tmp_path)
    assert f"note: {train_bad.sum()} train" in capsys.readouterr().err
    extra = load_model_and_extra(result.last)[1]
    assert extra["left_out"] == {"train": train_bad.sum(), "validation": held_bad.sum()}
    assert extra["split"]["train_patches"] == (~train_bad).sum()
    block = split_of(scene)
    assert block.validation is not None
    valid = np.ones(scene.size, bool)
    valid[block.validation.top, block.validation.left] = False
    holed = dataclasses.replace(scene, valid=valid)
    material = read_material(
        network(), [holed], [block], 4
    )  # not the block as a whole, but its patches of valid pixels
    assert material.validation.patches is not None
    assert np.array_equal(material.validation.patches.parts[0].origins, block.validation_origins[1:])
    result = run(holed, tmp_path / "b", steps=1, progress=True)
    assert f"scored by its {len(block.validation_origins) - 1} patches of valid" in capsys.readouterr().err
    assert load_model_and_extra(result.last)[1]["left_out"]["validation"] == 1
    valid[block.validation.slices] = False
    with pytest.raises(ValueError, match="every validation patch touches pixels where the scene 'demo' is not valid"):
        run(holed, tmp_path / "b2")
    valid[:, ::8] = False
    with pytest.raises(ValueError, match="every train patch touches pixels where the scene 'demo' is not valid"):
        train(network(), dataclasses.replace(scene, valid=valid), split, options_of(), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_memory_map_is_not_copied(tmp_path: Path) -> None:
    """A scene of 64 MB on the disk trains in a few of memory (tracemalloc sees numpy's)."""
    import tracemalloc

    from numpy.lib.format import open_memmap

    path = tmp_path / "large.npy"
    pixels = open_memmap(path, "w+", np.float32, (8, 1024, 2048))
    pixels[:] = np.random.default_rng(0).random((8, 1024, 1), np.float32)
    pixels.flush()
    del pixels
    scene = read_scene(path, peak=1.0)
    assert isinstance(scene.pixels, np.memmap)
    size = scene.size
    origins = np.array([[0, 0], [100, 200], [1000, 2000]])
    split = Split(size, 16, 8, Rect(900, 1024, 0, 2048), None, origins, origins + 5, origins[:0])
    tracemalloc.start()
    try:
        result = train(network(), scene, split, options_of(steps=2), tmp_path / "run")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.steps == 2
    assert peak < scene.pixels.nbytes / 4
