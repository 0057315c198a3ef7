"""One rule for regions: what training holds out can be scored and shown, and nothing else can."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lkcanet.data import (
    Rect,
    bicubic_downsample,
    demo_scene,
    parse_rect,
    read_scene,
    region_split,
    whole_pixels,
    write_scene,
)
from lkcanet.models import LKCANet, save_model

from ..command_line import lkca

pytest.importorskip("rich", reason="rich is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

SCALE = 4
TRAINING = [
    "--channels",
    16,
    "--blocks",
    1,
    "--groups",
    1,
    "--patch",
    4,
    "--batch-size",
    2,
    "--steps",
    1,
    "--threads",
    1,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A scene whose sides the scale does not divide, and a network that does something."""
    path = tmp_path_factory.mktemp("regions")
    scene = demo_scene((95, 63), 3, seed=1)
    write_scene(path / "scene.npz", scene)
    torch.manual_seed(0)
    model = LKCANet(3, SCALE, 8, 1, 1, reduction=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    save_model(model, path / "net.safetensors", extra={"peak": scene.peak})
    return path


def commands(folder: Path, out: Path, region: str) -> dict[str, list[object]]:
    """Every command that takes a region and degrades it or holds it out."""
    scene, net = folder / "scene.npz", folder / "net.safetensors"
    return {
        "train": ["train", scene, "--test", region, "--scale", SCALE, *TRAINING, "--out", out / "run"],
        "distill": ["distill", scene, "--teacher", net, "--test", region, *TRAINING, "--out", out / "student"],
        "evaluate": ["evaluate", scene, "-c", net, "--region", region],
        "evaluate bicubic": ["evaluate", scene, "--region", region, "--scale", SCALE],
        "show": ["show", scene, "-c", net, "--region", region, "--out", out / "show.svg"],
        "compress": ["compress", net, out / "small.safetensors", "--rank", 2, "--scene", scene, "--test", region,
                     "--patch", 4],
    }  # fmt: skip


NAMES = tuple(commands(Path(), Path(), ""))
NEEDS = {"train": "lightning", "distill": "lightning", "show": "matplotlib"}


def check_packages(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"{NEEDS[name]} is not installed")


@pytest.mark.parametrize("name", NAMES)
def test_a_region_is_trimmed_by_all_or_by_none(folder: Path, tmp_path: Path, name: str) -> None:
    check_packages(name)
    result = lkca(*commands(folder, tmp_path, "0:95,32:63")[name])
    assert result.exit_code == 0, result.stderr
    note = "is of 95 x 31 pixels: its first 92 x 28 count, whole low-resolution pixels at scale 4"
    assert sum(note in line for line in result.stderr.splitlines()) == (name != "compress")  # which scores nothing
    assert "count, whole" not in lkca(*commands(folder, tmp_path / "again", "0:92,32:60")["evaluate"]).stderr


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("region", ["0:95,60:63", "0:7,0:63", "90:95,60:63"])
def test_what_is_too_small_is_refused_by_all_before_the_work(
    folder: Path, tmp_path: Path, name: str, region: str
) -> None:
    result = lkca(*commands(folder, tmp_path, region)[name])
    rect = parse_rect(region, (95, 63))
    assert result.exit_code == 1
    assert result.stdout == ""
    what = f"region {region} of {rect.height} x {rect.width} pixels is too small: at scale 4 at least 8 x 8 are needed"
    assert what in result.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_what_training_holds_out_is_scored_and_shown(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    trained = lkca(*commands(folder, tmp_path, "0:95,32:63")["train"])
    assert trained.exit_code == 0, trained.stderr
    best = tmp_path / "run" / "best.safetensors"
    for command in (["evaluate", folder / "scene.npz", "-c", best], ["show", folder / "scene.npz", "-c", best]):
        result = lkca(*command, *(["--out", tmp_path / "a.svg"] if command[0] == "show" else []))
        assert result.exit_code == 0, result.stderr
        assert "its first 92 x 28 count" in result.stderr


def test_whole_scenes_too(folder: Path, tmp_path: Path) -> None:
    note = "the scene 0:95,0:63 is of 95 x 63 pixels: its first 92 x 60 count"
    result = lkca("degrade", folder / "scene.npz", tmp_path / "lr.npy")
    assert note in result.stderr
    whole = read_scene(folder / "scene.npz")
    expected = bicubic_downsample(whole.tensor()[..., :92, :60].contiguous(), SCALE)[0]
    assert np.array_equal(read_scene(tmp_path / "lr.npy", peak=whole.peak).pixels, expected.numpy())
    assert note in lkca("evaluate", folder / "scene.npz", "-c", folder / "net.safetensors").stderr
    refused = lkca("degrade", folder / "scene.npz", tmp_path / "x.npy", "--region", "0:95,0:3")
    assert "0:95,0:3 of 95 x 3 pixels is too small: at scale 4 at least 4 x 4 are needed" in refused.stderr
    assert not (tmp_path / "x.npy").exists()
    assert "--scale must be 1 or more, got 0" in lkca("evaluate", folder / "scene.npz", "--scale", 0).stderr


def test_a_prediction_of_the_trimmed_scene_is_scored(folder: Path, tmp_path: Path) -> None:
    lkca("degrade", folder / "scene.npz", tmp_path / "lr.npy")
    net = folder / "net.safetensors"
    assert lkca("super-resolve", tmp_path / "lr.npy", tmp_path / "sr.npy", "-c", net).exit_code == 0
    result = lkca("evaluate", folder / "scene.npz", "--prediction", tmp_path / "sr.npy", "-c", net, "--json")
    assert result.exit_code == 0, result.stderr
    assert '"region": "0:92,0:60"' in result.stdout


def test_training_by_itself_refuses_it_too(folder: Path, tmp_path: Path) -> None:
    from lkcanet.training import TrainOptions, train

    scene = read_scene(folder / "scene.npz")
    split = region_split(scene.pixels.shape, "0:95,60:63", patch=16, stride=8)
    with pytest.raises(ValueError, match="the test region 0:95,60:63 of 95 x 3 pixels is too small"):
        train(LKCANet(3, SCALE, 8, 1, 1, reduction=8), scene, split, TrainOptions(steps=1), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 7, 8, 16])
def test_whole_pixels(scale: int) -> None:
    for height in range(1, 40):
        rect = Rect(3, 3 + height, 5, 45)
        left = height // scale * scale
        if left < 7:  # no window of MSSIM fits
            with pytest.raises(ValueError, match=r"the region .* is too small"):
                whole_pixels(rect, scale)
        else:
            assert whole_pixels(rect, scale) == Rect(3, 3 + left, 5, 5 + 40 // scale * scale)
    needed = -(-7 // scale) * scale
    assert whole_pixels(Rect(0, needed, 0, needed), scale) == Rect(0, needed, 0, needed)
    with pytest.raises(ValueError, match=f"at least {needed} x {needed} are needed"):
        whole_pixels(Rect(0, needed - 1, 0, 40), scale)
    assert whole_pixels(Rect(0, 2 * scale - 1, 0, scale), scale, least=1) == Rect(0, scale, 0, scale)


def test_images_are_degraded_as_in_the_training(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the point spread function that the checkpoint names."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from lkcanet import inference
    from lkcanet.data import SuperResolutionPatches
    from lkcanet.data.multispectral import degraded
    from lkcanet.models import load_model_and_extra

    model, extra = load_model_and_extra(folder / "net.safetensors")
    net, scene = tmp_path / "psf.safetensors", read_scene(folder / "scene.npz")
    save_model(model, net, extra={**extra, "options": {"psf_sigma": 1.5}})
    seen: list[Any] = []
    enlarge, make = inference.super_resolve, SuperResolutionPatches.__init__

    def enlarged(network: Any, small: Any, **options: Any) -> Any:
        seen.append(small.tensor())
        return enlarge(network, small, **options)

    def made(self: Any, *args: Any, **options: Any) -> None:
        seen.append(options.get("psf_sigma"))
        make(self, *args, **options)

    monkeypatch.setattr(inference, "super_resolve", enlarged)
    monkeypatch.setattr(SuperResolutionPatches, "__init__", made)
    names = ("show", "evaluate", "compress")
    for name in names:
        line = commands(folder, tmp_path, "0:95,32:63")[name]
        line[line.index(folder / "net.safetensors")] = net
        assert lkca(*line).exit_code == 0, name
    expected = degraded(scene.tensor()[..., :92, 32:60].contiguous(), SCALE, 1.5)
    assert torch.equal(seen[0], expected)
    assert torch.equal(seen[1], expected)
    assert seen[2] == 1.5
