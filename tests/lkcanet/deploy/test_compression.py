"""LKCA-Nets with a compressed upsampler: outputs, files, and `lkca compress`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lkops
from lkcanet.benchmark import eager
from lkcanet.cli import build_app
from lkcanet.data import SuperResolutionPatches, TrainingRecord, demo_scene, write_scene
from lkcanet.deploy.compression import PatchBatches, cheaper_upsamplers, compress_lkcanet, training_patches
from lkcanet.deploy.rank import rank_report
from lkcanet.inference import memory, super_resolve
from lkcanet.models import LKCANet, load_model, load_model_and_extra, save_model

testing = pytest.importorskip("typer.testing", reason="typer is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed")


def trained(weight_norm: bool = True, **options: Any) -> LKCANet:
    """A small network all of whose parameters are random."""
    torch.manual_seed(0)
    model = LKCANet(6, 2, 16, 2, reduction=8, weight_norm=weight_norm, drop_path=0.0, **options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("upsample") or parameter.dim() == 1:
                parameter.normal_(0, 0.2)
        if weight_norm:
            model.upsample.conv.get_parameter("parametrizations.weight.original0").fill_(0.3)
    return model.eval()


def image() -> torch.Tensor:
    return torch.rand(2, 6, 9, 11, generator=torch.Generator().manual_seed(1))


WAYS: list[dict[str, Any]] = [{"groups": 4}, {"groups": 4, "permute": True}, {"rank": 5}, {"share": 0.6}]


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("weight_norm", [True, False])
def test_same_as_lkops_and_through_a_file(
    options: dict[str, Any], calibrated: bool, weight_norm: bool, tmp_path: Path
) -> None:
    model, x = trained(weight_norm), image()
    calibration = [x] if calibrated else None
    result, report = compress_lkcanet(model, calibration=calibration, example_input=x, **options)
    plain, _ = lkops.compress(model, calibration=calibration, **options)  # with a permutation at run time
    assert torch.allclose(result(x), plain(x), atol=2e-6)
    assert report.output_error == pytest.approx(float((result(x) - model(x)).norm() / model(x).norm()), rel=1e-3)
    assert report.output_error > 0.001
    assert report.parameters == (model.parameter_count(), result.parameter_count())
    assert report.parameters[1] < report.parameters[0]
    assert result.macs(9, 11) < model.macs(9, 11)
    assert torch.allclose(result.fold()(x), result(x), atol=2e-6)
    save_model(result, tmp_path / "net.safetensors")
    again = load_model(tmp_path / "net.safetensors")
    assert again.config == result.config
    assert torch.equal(again(x), result(x))
    assert torch.allclose(eager.Network(result.fold())(x), result(x), atol=1e-5)


def test_grouped_is_an_lkca_lr() -> None:
    result, _ = compress_lkcanet(trained(), groups=4)
    same = LKCANet(6, 2, 16, 2, upsample_groups=4, reduction=8, drop_path=0.0)
    assert result.config == same.config
    same.load_state_dict(result.state_dict())
    assert torch.equal(same.eval()(image()), result(image()))


def test_order_is_refused_where_it_is_not_absorbed() -> None:
    plain, _ = lkops.compress(trained(), groups=4, permute=True)
    assert isinstance(plain, LKCANet)
    with pytest.raises(ValueError, match=r"lkcanet\.deploy\.compression\.compress"):
        plain.fold()
    assert '"upsample_groups": 4' in repr(plain)
    assert plain.macs(9, 11) == compress_lkcanet(trained(), groups=4)[0].macs(9, 11)
    assert torch.allclose(plain.upsampled(image())[1], plain(image()), atol=1e-6)


def test_only_the_upsampler_learns_where_the_order_is_absorbed() -> None:
    for model in (trained(), trained(weight_norm=False)):
        student, _ = compress_lkcanet(model, groups=4, permute=True)
        assert not torch.equal(student.head.weight, model.head.weight)
        told = lkops.distill_upsampler(model, student, [image()], steps=1)
        assert all(name.startswith("upsample.conv.") for name in told.trained)


def test_memory_counts_the_channels_between() -> None:
    model = trained().fold()
    few, many = (memory(compress_lkcanet(model, rank=rank)[0], 40, 24).upsampling for rank in (2, 12))
    assert many - few == 4 * 10 * 40 * 24


def test_factored_network_in_strips_and_tiles() -> None:
    result, _ = compress_lkcanet(trained(), rank=5)
    x = torch.rand(6, 40, 24, generator=torch.Generator().manual_seed(2))
    whole = result(x[None])[0]
    scene = demo_scene((40, 24), 6)
    scene = type(scene)(pixels=x.numpy(), name="x", peak=1.0)
    assert torch.allclose(torch.from_numpy(super_resolve(result, scene).pixels), whole, atol=1e-6)
    report = rank_report(result)
    assert report.rank <= 5
    assert report.ranks[0.99] <= 5
    assert report.parameters.upsampler == sum(p.numel() for p in result.upsample.parameters())


def test_rank_of_a_fresh_network() -> None:
    model = LKCANet(6, 2, 16, 1, reduction=8, upsample_rank=5)
    assert torch.allclose(model.eval()(image()), lkops.bicubic_upsample(image(), scale=2), atol=1e-6)
    model.train()(image()).square().mean().backward()
    gain = model.upsample.conv.get_parameter("parametrizations.weight.original0")
    assert gain.grad is not None
    assert gain.grad.abs().max() > 0
    for options, message in (
        ({"upsample_rank": 0}, "upsample_rank"),
        ({"upsample_rank": 4, "upsample_groups": 2}, "groups 1"),
    ):
        with pytest.raises(ValueError, match=message):
            LKCANet(6, 2, 16, 1, reduction=8, **options)  # type: ignore[arg-type]


def test_other_networks_are_refused() -> None:
    with pytest.raises(TypeError, match=r"lkops\.compress takes any network"):
        compress_lkcanet(torch.nn.Conv2d(3, 3, 3), rank=1)  # type: ignore[arg-type]


def test_batches_are_the_patches() -> None:
    scene = demo_scene((24, 24), 3)
    patches = SuperResolutionPatches(
        scene, scale=2, lr_size=4, origins=np.array([[0, 0], [8, 8], [0, 16], [16, 0], [16, 16]])
    )
    batches = PatchBatches(patches, 2, seed=3)
    first, second = list(batches), list(batches)
    assert [tuple(lowres.shape) for lowres, _ in first] == [(2, 3, 4, 4)] * 2
    assert first[0][1].shape == (2, 3, 8, 8)
    assert not torch.equal(first[0][1], second[0][1])
    assert torch.equal(next(iter(PatchBatches(patches, 2, seed=3)))[1], first[0][1])
    assert len(batches.calibration(3)) == 3
    assert torch.equal(batches.calibration(9)[4], patches[4].lowres[None])


class TestCommand:
    @pytest.fixture
    def files(self, tmp_path: Path) -> Path:
        scene = demo_scene((96, 96), 6, seed=0)
        write_scene(tmp_path / "scene.mat", scene)
        split = {"test": "0:96,64:96", "train": "0:96,0:64", "validation": "64:96,0:64"}
        extra = {"peak": scene.peak, "scene": {"name": scene.name, "shape": [6, 96, 96]}, "split": split}
        save_model(trained(), tmp_path / "net.safetensors", extra=extra)
        return tmp_path

    def run(self, folder: Path, *arguments: str) -> Any:
        paths = [str(folder / "net.safetensors"), str(folder / "out.safetensors")]
        return testing.CliRunner().invoke(build_app(), ["compress", *paths, *arguments, "--threads", "1"])

    def told(self, folder: Path, *arguments: str) -> dict[str, Any]:
        result = self.run(folder, *arguments, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    def test_writes_the_network(self, files: Path) -> None:
        told = self.told(files, "--groups", "4", "--permute")
        model, extra = load_model_and_extra(files / "out.safetensors")
        expected, _ = compress_lkcanet(trained(), groups=4, permute=True)
        assert torch.equal(model(image()), expected(image()))
        assert told["parameters"] == [trained().parameter_count(), model.parameter_count()]
        assert extra["split"]["test"] == "0:96,64:96"
        assert extra["compression"]["after"] == told["compression"]["after"] == "3x3 of 4 groups, inputs chosen"
        assert not extra["compression"]["calibrated"]

    def test_calibrates_and_aligns_on_training_pixels(self, files: Path) -> None:
        scene = str(files / "scene.mat")
        options = ("--rank", "4", "--scene", scene, "--patch", "8", "--align", "6", "--batch-size", "2")
        told = self.told(files, *options)["compression"]
        assert told["calibrated"]
        assert told["alignment"]["steps"] == 6
        assert told["alignment"]["last"]["loss"] != told["alignment"]["first"]["loss"]
        once = load_model(files / "out.safetensors").state_dict()
        whole = demo_scene((96, 96), 6, seed=0)
        pixels = whole.pixels.copy()
        pixels[:, :, 64:] = 0.7  # the test region
        pixels[:, 64:] = 0.7  # validation
        write_scene(files / "scene.mat", replace(whole, pixels=pixels))
        self.told(files, *options, "--overwrite")
        for key, value in load_model(files / "out.safetensors").state_dict().items():
            assert torch.equal(value, once[key])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--groups", "4", "--rank", "2"], "give one of share, groups and rank"),
            (["--groups", "5"], "5 groups do not divide"),
            (["--align", "3"], "--align needs --scene"),
            (["--align", "-3"], "--align must be 0 or more"),
            (["--rank", "2", "--align-all"], "--align-all goes with --align"),
            (["--rank", "500"], "it would have more parameters"),
        ],
    )
    def test_says_what_is_wrong(self, files: Path, arguments: list[str], message: str) -> None:
        result = self.run(files, *arguments)
        assert result.exit_code == 1
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
        assert not (files / "out.safetensors").exists()

    def test_replaces_nothing_unasked(self, files: Path) -> None:
        (files / "out.safetensors").write_bytes(b"mine")
        result = self.run(files, "--rank", "2")
        assert result.exit_code == 1
        assert "exists" in result.stderr
        assert (files / "out.safetensors").read_bytes() == b"mine"


def test_patches_to_calibrate_on_are_those_of_the_training() -> None:
    """Of its scene: its patch size and point spread function, and no pixel of the test region or validation block."""
    scene = demo_scene((48, 64), 6, seed=1)
    told: dict[str, Any] = {
        "scene": {"name": scene.name, "shape": [6, 48, 64]},
        "split": {"test": "0:48,40:64", "train": "0:20,0:26", "validation": "32:48,0:40", "patch": 16},
        "options": {"psf_sigma": 1.2},
    }
    patches = training_patches(trained(), scene, TrainingRecord(told))
    assert (patches.patch, patches.psf_sigma) == (16, 1.2)
    assert len(patches)
    for row, column in patches.origins.tolist():
        assert row + 16 <= 20
        assert column + 16 <= 26
    # of another division of the scene only that region is left unread
    others = training_patches(trained(), scene, TrainingRecord(told), test="0:48,0:40", lr_size=4)
    assert others.patch == 8
    assert min(column for _, column in others.origins.tolist()) >= 40
    assert max(row for row, _ in others.origins.tolist()) > 32
    assert training_patches(trained(), scene, test="0:16,:").patch == 32


def test_patches_to_calibrate_on_of_a_training_on_several_scenes() -> None:
    scene = demo_scene((48, 64), 6, seed=1)
    one: dict[str, Any] = {"name": scene.name, "shape": [6, 48, 64], "test": None, "train": "0:48,0:64"}
    told = {"scenes": [{"name": "x", "shape": [6, 9, 9]}, {**one, "validation": "32:48,0:64"}], "split": {"patch": 16}}
    patches = training_patches(trained(), scene, TrainingRecord(told))
    assert patches.patch == 16
    assert 0 < max(row for row, _ in patches.origins.tolist()) <= 16
    assert 24 < max(column for _, column in patches.origins.tolist()) <= 48
    held = {**told, "scenes": [{**one, "test": "0:48,20:40", "validation": None}]}
    origins = training_patches(trained(), scene, TrainingRecord(held), lr_size=4).origins.tolist()
    assert all(column + 8 <= 20 or column >= 40 for _, column in origins)
    assert {column < 20 for _, column in origins} == {True, False}
    other = {**told, "scenes": [{**one, "train": None, "validation": "0:48,0:64"}]}
    with pytest.raises(ValueError, match="net was not trained on 'demo', which chose its checkpoint"):
        training_patches(trained(), scene, TrainingRecord(other, "net"))
    namesakes = {**told, "scenes": [one, {**one, "train": None, "source": scene.source}]}
    with pytest.raises(ValueError, match="which chose its checkpoint"):
        training_patches(trained(), scene, TrainingRecord(namesakes))
    with pytest.raises(ValueError, match="test is None"):
        training_patches(trained(), scene, TrainingRecord({**told, "scenes": [one, one]}))


def test_patches_to_calibrate_on_need_a_test_region() -> None:
    scene = demo_scene((48, 64), 6, seed=1)
    other = TrainingRecord({"scene": {"name": "other", "shape": [6, 48, 64]}, "split": {"test": "0:8,:"}}, "net")
    with pytest.raises(ValueError, match="test is None, and 'demo' is not a scene that net names a test region of"):
        training_patches(trained(), scene, other)
    with pytest.raises(ValueError, match="lr_size must be 1 or more, got 0"):
        training_patches(trained(), scene, test=":,40:", lr_size=0)
    with pytest.raises(ValueError, match="the test region 0:48,60:64 of 48 x 4 pixels is too small"):
        training_patches(trained(), scene, test=":,60:")


def test_cheaper_upsamplers_are_those_that_can_be_made() -> None:
    model = trained()
    found = cheaper_upsamplers(model)
    assert found is not None
    assert list(found.groups) == sorted(found.groups)
    for groups, parameters in found.groups.items():
        made = compress_lkcanet(model, groups=groups)[0]
        gains = sum(p.numel() for name, p in made.named_parameters() if name.endswith("original0"))
        had = sum(p.numel() for name, p in model.named_parameters() if name.endswith("original0"))
        assert made.parameter_count() - gains == parameters - had
    assert compress_lkcanet(model, rank=found.rank)[1].compressed
    assert not compress_lkcanet(model, rank=found.rank + 1)[1].compressed
    grouped = cheaper_upsamplers(compress_lkcanet(model, groups=4)[0])
    assert grouped is not None
    assert (grouped.rank, min(grouped.groups) > 4) == (0, True)
    assert cheaper_upsamplers(compress_lkcanet(model, rank=2)[0]) is None
    assert cheaper_upsamplers(LKCANet(6, 2, 16, 1, reduction=8)) is None
