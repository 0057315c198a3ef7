"""Patches: what is cut, how it is degraded and turned, and that workers agree."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lkcanet.data import (
    Scene,
    SuperResolutionPatches,
    bicubic_downsample,
    dihedral,
    read_scene,
    region_split,
    scene_from_array,
    write_scene,
)


@pytest.fixture
def scene() -> Scene:
    """Every pixel of every band is different, so a patch tells where it was cut and how it was turned."""
    values = np.arange(3 * 40 * 36, dtype=np.float64).reshape(3, 40, 36) + 1
    return scene_from_array(values, name="indexed")


@pytest.fixture
def mapped(scene: Scene, tmp_path: Path) -> Scene:
    write_scene(tmp_path / "scene.npy", scene)
    return read_scene(tmp_path / "scene.npy")


def test_dihedral_is_the_group_of_the_square() -> None:
    x = torch.arange(2 * 3 * 3).reshape(2, 3, 3)
    images = [dihedral(x, k) for k in range(8)]
    names = {tuple(image.flatten().tolist()): k for k, image in enumerate(images)}
    assert len(names) == 8
    assert torch.equal(images[0], x)
    assert torch.equal(images[1], torch.rot90(x, 1, (1, 2)))
    assert torch.equal(images[4], x.flip(-1))
    table = [[names[tuple(dihedral(a, k).flatten().tolist())] for k in range(8)] for a in images]  # closed
    for row in table:
        assert sorted(row) == list(range(8))
    inverses = [row.index(0) for row in table]
    assert inverses == [0, 3, 2, 1, 4, 5, 6, 7]
    for k in range(8):
        assert torch.equal(dihedral(dihedral(x, k), inverses[k]), x)
    assert dihedral(torch.zeros(2, 3, 5), 1).shape == (2, 5, 3)
    with pytest.raises(ValueError, match="k must be 0 to 7"):
        dihedral(x, 8)


@pytest.mark.parametrize("k", range(8))
def test_degrading_commutes_with_dihedral(k: int) -> None:
    x = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(
        bicubic_downsample(dihedral(x, k), 4), dihedral(bicubic_downsample(x, 4), k), rtol=0, atol=1e-14
    )


def test_patches_are_the_scene_and_its_degraded_crops(scene: Scene) -> None:
    data = SuperResolutionPatches(scene, scale=4, lr_size=3, stride=5)
    assert len(data) == 6 * 5
    for index, (row, column) in enumerate(data.origins):
        lowres, reference = data[index]
        assert lowres.shape == (3, 3, 3)
        assert reference.shape == (3, 12, 12)
        assert reference.dtype == lowres.dtype == torch.float32
        crop = scene.pixels[:, row : row + 12, column : column + 12]
        assert np.array_equal(reference.numpy(), crop)
        assert torch.equal(lowres, bicubic_downsample(torch.from_numpy(crop.copy())[None], 4)[0])
    assert torch.equal(data[-1].reference, data[len(data) - 1].reference)
    with pytest.raises(IndexError):
        data[len(data)]


def test_default_stride_is_half_a_patch_and_origins_come_from_a_split(scene: Scene) -> None:
    assert len(SuperResolutionPatches(scene, scale=2, lr_size=4)) == 9 * 8
    split = region_split(scene.pixels.shape, "0:16,:", patch=8, stride=4)
    data = SuperResolutionPatches(scene, scale=2, lr_size=4, origins=split.train_origins)
    assert len(data) == split.counts["train"]
    tested = set(scene.pixels[:, :16].ravel().tolist())
    for pair in data:
        assert not tested & set(pair.reference.flatten().tolist())


def test_enumerated_augmentation(scene: Scene) -> None:
    plain = SuperResolutionPatches(scene, scale=4, lr_size=3, stride=12)
    data = SuperResolutionPatches(scene, scale=4, lr_size=3, stride=12, augment="enumerate")
    assert len(data) == 8 * len(plain)
    for index in range(len(data)):
        pair, base = data[index], plain[index // 8]
        assert torch.equal(pair.reference, dihedral(base.reference, index % 8))
        assert torch.equal(pair.lowres, dihedral(base.lowres, index % 8))
        assert pair.reference.is_contiguous()
        assert pair.lowres.is_contiguous()


def elements(data: SuperResolutionPatches, plain: SuperResolutionPatches) -> list[int]:
    found = []
    for index, pair in enumerate(data):
        same = [k for k in range(8) if torch.equal(pair.reference, dihedral(plain[index].reference, k))]
        assert len(same) == 1
        assert torch.equal(pair.lowres, dihedral(plain[index].lowres, same[0]))
        found += same
    return found


def test_random_augmentation_depends_on_seed_epoch_and_index_only(scene: Scene) -> None:
    plain = SuperResolutionPatches(scene, scale=2, lr_size=3, stride=3)
    draws = {}
    for seed, epoch in [(0, 0), (0, 1), (1, 0)]:
        data = SuperResolutionPatches(scene, scale=2, lr_size=3, stride=3, augment="random", seed=seed)
        data.set_epoch(epoch)
        draws[seed, epoch] = elements(data, plain)
        assert elements(data, plain) == draws[seed, epoch]
        assert np.bincount(draws[seed, epoch], minlength=8).min() >= 4  # of 132 draws
    assert len({tuple(d) for d in draws.values()}) == 3


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_agree_and_see_set_epoch(mapped: Scene, start: str) -> None:
    data = SuperResolutionPatches(mapped, scale=4, lr_size=3, stride=12, augment="random")
    loader = DataLoader(
        data, batch_size=2, num_workers=1, persistent_workers=True, multiprocessing_context=start, timeout=60
    )
    for epoch in range(2):
        data.set_epoch(epoch)
        batches = list(loader)
        assert torch.equal(torch.cat([b.reference for b in batches]), torch.stack([pair.reference for pair in data]))
        assert torch.equal(torch.cat([b.lowres for b in batches]), torch.stack([pair.lowres for pair in data]))


def test_a_memory_map_is_pickled_as_its_name(mapped: Scene, scene: Scene, tmp_path: Path) -> None:
    data = SuperResolutionPatches(mapped, scale=4, lr_size=3)
    text = pickle.dumps(data)
    assert len(text) < scene.pixels.nbytes / 4
    again = pickle.loads(text)
    assert isinstance(again.pixels, np.memmap)
    assert torch.equal(again[3].reference, data[3].reference)
    # a part of a map is not what lies at the start of its file
    part = SuperResolutionPatches(Scene(mapped.pixels[1:], mapped.peak), scale=4, lr_size=3)
    assert torch.equal(pickle.loads(pickle.dumps(part))[3].reference, part[3].reference)
    held = SuperResolutionPatches(scene, scale=4, lr_size=3)
    assert torch.equal(pickle.loads(pickle.dumps(held))[3].reference, held[3].reference)
    from_path = SuperResolutionPatches(tmp_path / "scene.npy", scale=4, lr_size=3)
    assert torch.equal(from_path[3].reference, data[3].reference)


def test_writing_to_a_sample_changes_neither_scene_nor_file(mapped: Scene) -> None:
    data = SuperResolutionPatches(mapped, scale=4, lr_size=3)
    before = data[0].reference.clone()
    data[0].reference.zero_()
    assert torch.equal(data[0].reference, before)
    assert before.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0}, "scale and lr_size must be 1 or more"),
        ({"lr_size": 0}, "scale and lr_size must be 1 or more"),
        ({"stride": 0}, "stride must be 1 or more"),
        ({"augment": "flip"}, "augment must be"),
        ({"lr_size": 10}, "no 40 x 40 patch fits the scene of 40 x 36 pixels"),
        ({"origins": np.array([[29, 0]])}, "origins: a 12 x 12 patch leaves the scene"),
        ({"origins": np.array([[-1, 0]])}, "origins: a 12 x 12 patch leaves the scene"),
        ({"origins": np.array([[0, 0]]), "stride": 4}, "stride and origins"),
    ],
)
def test_bad_options(scene: Scene, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SuperResolutionPatches(scene, **{"scale": 4, "lr_size": 3, **options})
