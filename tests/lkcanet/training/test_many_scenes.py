"""Training on several scenes, of several sizes, some of which validate alone."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.data import Scene, demo_scene, split_scenes
from lkcanet.data.degrade import bicubic_downsample
from lkcanet.evaluation.metrics import mpsnr
from lkcanet.models import load_model_and_extra
from lkcanet.training import state as _state
from lkcanet.training import train
from lkcanet.training.material import read_material

from .test_training_resume import files
from .training_helpers import at_step, die, ended, in_child, network, options_of

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scenes")

SIZES = ((48, 64), (40, 33), (64, 40))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    made = [demo_scene(size, 8, seed=seed) for seed, size in enumerate(SIZES)]
    return [dataclasses.replace(scene, name=name) for scene, name in zip(made, "abc", strict=True)]


def splits_of(scenes: list[Scene], validation: str | float = "b", **given):
    return split_scenes(scenes, **{"patch": 16, "stride": 9, "validation": validation, "scale": 2, **given})


def test_patches_are_those_of_all_scenes(scenes) -> None:
    splits = splits_of(scenes)
    patches = read_material(network(), scenes, splits, 4).patches
    places = [patches.where(index) for index in range(len(patches))]
    expected = [("ac"[k], *map(int, at)) for k, part in enumerate((splits[0], splits[2])) for at in part.train_origins]
    assert places == expected
    assert len(places) == len(splits[0].train_origins) + len(splits[2].train_origins)
    by_name = {scene.name: scene for scene in scenes}
    for index in (0, len(splits[0].train_origins) - 1, len(splits[0].train_origins), len(places) - 1):
        name, row, column = places[index]
        cut = by_name[name].pixels[:, row : row + 16, column : column + 16]
        lowres, reference = patches[index]
        assert np.array_equal(reference.numpy(), cut)
        assert torch.equal(lowres, bicubic_downsample(torch.tensor(cut)[None], 2)[0])
    with pytest.raises(IndexError):
        patches[len(patches)]


def test_a_run_sees_every_scene_and_validates_on_the_held(scenes, tmp_path: Path) -> None:
    model = network()
    splits = splits_of(scenes)
    result = train(model, scenes, splits, options_of(), tmp_path)
    target = scenes[1].tensor()[..., :40, :32]  # whole LR pixels
    with torch.no_grad():
        image = model(bicubic_downsample(target, 2))
    assert mpsnr(image, target) == pytest.approx(result.history[-1]["mpsnr"], abs=1e-5)
    extra = load_model_and_extra(result.best)[1]
    assert [each["name"] for each in extra["scenes"]] == ["a", "b", "c"]
    assert extra["scenes"][1] | {"source": 0} == {
        "name": "b", "source": 0, "shape": [8, 40, 33], "peak": scenes[1].peak, "test": None, "train": None,
        "validation": "0:40,0:33",
    }  # fmt: skip
    assert extra["peak"] == (scenes[0].peak if len({scene.peak for scene in scenes}) == 1 else None)
    counts = [len(split.train_origins) for split in splits]
    assert extra["split"]["train_patches"] == sum(counts)


def test_scores_are_means_over_the_validation_images(scenes, tmp_path: Path) -> None:
    model = network()
    result = train(model, scenes, splits_of(scenes, "b,c"), options_of(), tmp_path)
    values = []
    for scene in scenes[1:]:
        target = scene.tensor()[..., : scene.size[0] // 2 * 2, : scene.size[1] // 2 * 2]
        with torch.no_grad():
            values.append(mpsnr(model(bicubic_downsample(target, 2)), target))
    assert sum(values) / 2 == pytest.approx(result.history[-1]["mpsnr"], abs=1e-5)


def test_a_killed_run_on_scenes_goes_on_with_the_same_bits(scenes, tmp_path: Path) -> None:
    splits = splits_of(scenes, 0.2)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    train(network(), scenes, splits, options_of(), straight)

    def work() -> None:
        at_step(8, die)
        train(network(), scenes, splits, options_of(), killed)

    assert ended(in_child(work)) < 0
    assert _state.read(killed / "state.safetensors").step == 6
    train(network(3), scenes, splits, options_of(), killed, resume=True)
    assert files(killed) == files(straight)
    other = [scenes[0], dataclasses.replace(scenes[1], name="other"), scenes[2]]
    with pytest.raises(ValueError, match="not the run to resume: scenes is"):
        train(network(), other, splits, options_of(), killed, resume=True)


def test_one_scene_in_a_list_is_that_scene(scenes, tmp_path: Path) -> None:
    split = splits_of(scenes[:1], 0.2)
    train(network(), scenes[:1], split, options_of(), tmp_path / "list")
    train(network(), scenes[0], split[0], options_of(), tmp_path / "alone")
    assert files(tmp_path / "list") == files(tmp_path / "alone")


def test_an_error_of_a_step_names_the_scene(scenes, tmp_path: Path) -> None:
    options = options_of(learning_rate=1e30, final_learning_rate=1e30)
    with pytest.raises(
        FloatingPointError, match=r"patches at \(scene, row, column, orientation\) \([abc], \d+, \d+, \d\)"
    ):
        train(network(), scenes, splits_of(scenes, 0.2), options, tmp_path)


@pytest.mark.parametrize(
    ("scenes_of", "splits_of_them", "message"),
    [
        (lambda s: s[:2], lambda p: p, "there must be a split for every scene, got 2 scenes and 3 splits"),
        (lambda s: s, lambda p: [p[1]] * 3, "the split is of a scene of"),
        (lambda s: [], lambda p: [], "there must be a split for every scene"),
        (lambda s: s[1:2], lambda p: p[1:2], "no split has training patches"),
        (lambda s: s[:1], lambda p: p[:1], "training needs a validation block, or patches"),
    ],
)
def test_what_does_not_fit(scenes, tmp_path: Path, scenes_of, splits_of_them, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(network(), scenes_of(scenes), splits_of_them(splits_of(scenes)), options_of(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scenes_of_other_bands_are_named(scenes, tmp_path: Path) -> None:
    odd = dataclasses.replace(demo_scene((48, 48), 5, seed=9), name="odd")
    every = [*scenes, odd]
    with pytest.raises(ValueError, match="the network takes 8 bands, the scene 'odd' has 5"):
        train(network(), every, splits_of(every), options_of(), tmp_path / "out")


def test_patches_of_other_sides_are_refused(scenes, tmp_path: Path) -> None:
    mixed = [*splits_of(scenes)[:2], splits_of(scenes, patch=20)[2]]
    with pytest.raises(ValueError, match="all scenes must be cut into the same patches, got sides of 16 with stride 9"):
        train(network(), scenes, mixed, options_of(), tmp_path / "out")
