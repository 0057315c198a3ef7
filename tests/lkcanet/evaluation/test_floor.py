"""The floor under the spectral angle: in losses and objectives, in options and runs."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lkops
from lkcanet.benchmark import eager
from lkcanet.data import bicubic_downsample, bicubic_upsample
from lkcanet.models import load_model_and_extra
from lkcanet.models.csakd import CSAKD
from lkcanet.objectives import Batch, HObjective, KDObjective, objective_for
from lkcanet.objectives.csakd import OnlineDistillation
from lkcanet.objectives.csakd_losses import CSAKDWeights, fusion_loss
from lkcanet.objectives.distillation import Distillation
from lkcanet.objectives.losses import h_loss, kd_loss
from lkcanet.training import TrainOptions, distill, train
from lkcanet.training import state as _state

from ..training.training_helpers import network, options_of, run, small_scene, split_of


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A prediction and a target whose pixels have levels from 0.001 to 1."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.logspace(-3, 0, 64, dtype=torch.float64).view(8, 8)
    p, t = (torch.rand(2, 5, 8, 8, generator=generator, dtype=torch.float64) * levels for _ in range(2))
    return p, t


class TestLosses:
    def test_h_loss_and_kd_loss_pass_it_on(self) -> None:
        p, t = pair()
        parts = lkops.spectral_losses(p, t, floor=0.05)
        h, kd = h_loss(p, t, floor=0.05), kd_loss(p, t, floor=0.05)
        assert h.sam == kd.sam == parts.sam
        assert kd.cosine == parts.cosine
        assert h.total.item() == pytest.approx((parts.l1 + 0.5 * parts.sam + 0.1 * parts.gradient).item())
        assert kd.total.item() == pytest.approx((0.5 * parts.cosine + 0.5 * parts.sam + 0.1 * parts.gradient).item())
        assert h_loss(p, t) == h_loss(p, t, floor=0.0) != h
        assert kd_loss(p, t) == kd_loss(p, t, floor=0.0) != kd

    def test_the_teacher_decides_what_is_dark(self) -> None:
        student, teacher = pair()
        student = (1000 * student).requires_grad_()
        loss = kd_loss(student, teacher, floor=0.05)
        (loss.sam + loss.cosine).backward()
        dark = teacher.square().mean(1).sqrt() <= 0.05
        assert dark.any()
        assert torch.equal(student.grad.abs().amax(1) == 0, dark)

    def test_eager_does_the_same(self) -> None:
        p, t = pair()
        for ours, theirs in zip(
            lkops.spectral_losses(p, t, floor=0.05), eager.spectral_losses(p, t, floor=0.05), strict=True
        ):
            torch.testing.assert_close(ours, theirs)

    def test_alignment(self) -> None:
        """`lkops.distill_upsampler`: both parts, with the floor of the teacher and of the target."""
        torch.manual_seed(0)
        teacher = torch.nn.Sequential(torch.nn.Conv2d(4, 16, 3, padding=1), torch.nn.PixelShuffle(2))
        student = torch.nn.Sequential(torch.nn.Conv2d(4, 16, 1), torch.nn.PixelShuffle(2))
        x, y = torch.rand(2, 4, 8, 8), torch.rand(2, 4, 16, 16)
        s, t = student(x).detach(), teacher(x).detach()
        kd, h = lkops.spectral_losses(s, t, floor=0.3), lkops.spectral_losses(s, y, floor=0.3)
        assert h != lkops.spectral_losses(s, y)
        (terms,) = lkops.distill_upsampler(teacher, student, [(x, y)], steps=1, floor=0.3).history
        assert terms["kd"] == pytest.approx(float(0.5 * kd.cosine + 0.5 * kd.sam + 0.1 * kd.gradient), rel=1e-4)
        assert terms["sam_loss"] == pytest.approx(float(h.sam), rel=1e-4)
        with pytest.raises(ValueError, match="floor must be a finite number, 0 or more, got -1"):
            lkops.distill_upsampler(teacher, student, [(x, y)], steps=1, floor=-1)


class TestObjectives:
    def test_options_reach_the_objective(self) -> None:
        objective = objective_for(network(), TrainOptions(floor=0.03))
        assert isinstance(objective, HObjective)
        assert objective.floor == 0.03
        default = objective_for(network())
        assert isinstance(default, HObjective)
        assert default.floor == TrainOptions().floor > 0
        assert HObjective().floor == 0  # the paper's

    def test_losses_have_the_floor(self) -> None:
        model, image = network(), torch.rand(2, 8, 8, 8)
        batch = Batch(image, 0.1 * torch.rand(2, 8, 16, 16))
        plain = HObjective()(model, batch, 0.0)
        floored = HObjective(floor=0.05)(model, batch, 0.0)
        assert (
            0
            < float(torch.as_tensor(floored["sam_loss"]).detach())
            < float(torch.as_tensor(plain["sam_loss"]).detach())
        )

    def test_distillation_of_images_has_it_and_of_features_has_not(self) -> None:
        model, teacher = network(drop_path=0.0), network(1, drop_path=0.0)
        for module in (model, teacher):
            for parameter in module.parameters():
                parameter.data += 0.02 * torch.randn_like(parameter)
        batch = Batch(torch.rand(2, 8, 8, 8), torch.rand(2, 8, 16, 16))
        values = {}
        for on in ("image", "features"):
            for floor in (0.0, 0.4):
                objective = KDObjective(teacher, Distillation(on=on), floor=floor)
                values[on, floor] = float(torch.as_tensor(objective(model, batch, 0.0)["kd_sam"]).detach())
        assert values["image", 0.4] < values["image", 0.0]
        assert values["features", 0.4] == values["features", 0.0] > 0

    def test_csakd_has_one_too(self) -> None:
        p, t = (x.float() for x in pair())
        plain, floored = fusion_loss(p, t), fusion_loss(p, t, CSAKDWeights(floor=0.05))
        assert floored.sam == lkops.cosine_loss(p, t, floor=0.05) != plain.sam
        assert plain.sam == lkops.cosine_loss(p, t)
        teacher = CSAKD(8, 3, 2, features=8, counts=(1, 1, 1, 1))
        told = [OnlineDistillation(teacher, CSAKDWeights(floor=f)).facts()["objective"]["weights"] for f in (0.0, 0.1)]
        assert "floor" not in told[0]  # or runs from before could not go on
        assert told[1]["floor"] == 0.1
        with pytest.raises(ValueError, match="floor must be a finite number, 0 or more, got -1"):
            CSAKDWeights(floor=-1)

    @pytest.mark.parametrize("floor", [-0.1, math.nan, math.inf, True, "0.1", None])
    def test_what_is_no_floor_is_named(self, floor: Any) -> None:
        with pytest.raises(ValueError, match="floor must be a finite number, 0 or more, got "):
            TrainOptions(floor=floor)


lightning = pytest.mark.skipif(
    not all(__import__("importlib").util.find_spec(name) for name in ("lightning", "safetensors", "scipy")),
    reason="lightning, safetensors or scipy is not installed",
)


def without_floor(out: Path) -> None:
    """Make the run in `out` one that a version without a floor left behind."""
    state = _state.read(out / _state.STATE)
    del state.identity["option"]["floor"]
    _state.write(out / _state.STATE, state)


def interrupted(out: Path, **options: Any) -> None:
    """A run that stops at its second validation."""
    from lkcanet.training.module import Module

    def hooked(self: Module, batch: Any, index: int) -> Any:
        if self.batches.start + index == 4:
            raise RuntimeError("stopped by the test")
        return original(self, batch, index)

    original = Module.training_step
    Module.training_step = hooked  # type: ignore[method-assign]
    try:
        with pytest.raises(RuntimeError, match="stopped by the test"):
            run(small_scene(), out, **options)
    finally:
        Module.training_step = original  # type: ignore[method-assign]


@lightning
class TestRuns:
    def test_it_is_kept_in_the_checkpoint_and_changes_the_run(self, tmp_path: Path) -> None:
        digests = set()
        for floor in (0.0, 0.3):
            result = run(small_scene(), tmp_path / str(floor), floor=floor, steps=3)
            model, extra = load_model_and_extra(result.last)
            assert extra["options"]["floor"] == floor
            digests.add(_state.digest(model.state_dict()))
        assert len(digests) == 2

    @pytest.mark.parametrize("kd", [False, True])
    def test_a_run_from_before_goes_on_without_a_floor(self, tmp_path: Path, kd: bool) -> None:
        if kd:
            pair = (network(), network(1))
            straight = distill(
                *pair, small_scene(), split_of(small_scene()), options_of(floor=0.0), None, tmp_path / "a"
            )
        else:
            straight = run(small_scene(), tmp_path / "a", floor=0.0)
        expected = _state.digest(load_model_and_extra(straight.last)[0].state_dict())
        out = tmp_path / "b"
        if kd:
            distill(*(network(), network(1)), small_scene(), split_of(small_scene()), options_of(floor=0.0), None, out)
            state = _state.read(out / _state.STATE)
            assert state.identity["option"]["floor"] == 0
            without_floor(out)
            again = distill(
                network(), network(1), small_scene(), split_of(small_scene()), options_of(), None, out, resume=True
            )
        else:
            interrupted(out, floor=0.0)
            without_floor(out)
            own = HObjective(floor=TrainOptions().floor)
            again = train(
                network(), small_scene(), split_of(small_scene()), options_of(), out, objective=own, resume=True
            )
            assert own.floor == 0
            assert again.resumed_from == 3
        model, extra = load_model_and_extra(again.last)
        assert _state.digest(model.state_dict()) == expected
        assert extra["options"]["floor"] == 0

    def test_another_floor_is_another_run(self, tmp_path: Path) -> None:
        interrupted(tmp_path, floor=0.0)
        with pytest.raises(ValueError, match=r"option floor is 0\.3, there it was 0\.0"):
            run(small_scene(), tmp_path, resume=True, floor=0.3)
        with pytest.raises(ValueError, match=r"option floor is 0\.\d+, there it was 0\.0"):
            run(small_scene(), tmp_path, resume=True)  # of a run that knew a floor, the default is no wildcard
        without_floor(tmp_path)
        with pytest.raises(ValueError, match=r"option floor is 0\.3, there it was 0\.0"):
            run(small_scene(), tmp_path, resume=True, floor=0.3)


def test_dark_pixels_pull_no_longer() -> None:
    """The fault itself: at a lake the angle pulls far harder than anywhere on land, and all weights with it."""
    pytest.importorskip("scipy", reason="scipy is not installed")
    from bench.experiments.floor import lake_scene, rms

    scene, lakes = lake_scene((64, 64), 8, seed=0)
    level = rms(scene.pixels)
    water = level < 2 * np.median(level[lakes])
    assert lakes.mean() == pytest.approx(0.05, abs=0.005)
    assert np.median(level[lakes]) == pytest.approx(0.01 * level[~lakes].mean(), rel=0.5)
    assert water.mean() > 0.02
    x = scene.tensor()
    pulls = {}
    for floor in (0.0, TrainOptions().floor):
        image = bicubic_upsample(bicubic_downsample(x, 2), 2).requires_grad_()
        (0.5 * lkops.sam_loss(image, x, floor=floor)).backward()
        assert image.grad is not None
        pull = image.grad.norm(dim=(0, 1)).numpy()
        pulls[floor] = pull[water].mean() / pull[~water].mean()
    assert pulls[0.0] > 10
    assert pulls[TrainOptions().floor] == 0
