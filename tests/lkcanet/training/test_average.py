"""The moving average of the weights, and the rise of the learning rate at the start."""

import csv
from pathlib import Path

import pytest
import torch

from lkcanet.data.scenes import Scene
from lkcanet.evaluation.metrics import mpsnr
from lkcanet.models import load_model
from lkcanet.training import state as _state
from lkcanet.training.average import Average

from .test_training_resume import files, killed_at
from .training_helpers import network, options_of, run, split_of

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")


def test_the_average_follows_its_formula() -> None:
    model = torch.nn.Linear(3, 2)
    average = Average(model, 0.6)
    expected = model.weight.detach().double().clone()
    for step in range(1, 30):
        with torch.no_grad():
            model.weight.normal_()
        average.update(model, step)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach().double()
    assert torch.allclose(average.values["weight"].double(), expected, rtol=0, atol=1e-6)
    own = model.weight.detach().clone()
    with average.in_place_of(model):
        assert torch.equal(model.weight, average.values["weight"])
    assert torch.equal(model.weight, own)


def test_checkpoints_and_scores_are_of_the_average(scene: Scene, tmp_path: Path) -> None:
    model = network()
    result = run(scene, tmp_path, model, ema=0.9)
    state = _state.read(tmp_path / "state.safetensors")
    last = load_model(result.last)
    for name, value in last.named_parameters():
        assert torch.equal(value, state.average[name])
        assert torch.equal(value, model.get_parameter(name))
    assert any(not torch.equal(state.average[name], state.model[name]) for name in state.average)
    block = split_of(scene).validation
    assert block is not None
    target = scene.cropped(block).tensor()
    from lkcanet.data import bicubic_downsample

    with torch.no_grad():
        image = last(bicubic_downsample(target, 2))
    assert mpsnr(image, target) == pytest.approx(result.history[-1]["mpsnr"], abs=1e-5)


def test_the_course_of_the_weights_is_that_without_average(scene: Scene, tmp_path: Path) -> None:
    run(scene, tmp_path / "with", ema=0.9)
    run(scene, tmp_path / "without")
    first, second = (_state.read(tmp_path / name / "state.safetensors").model for name in ("with", "without"))
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_a_killed_run_goes_on_with_its_average(scene: Scene, tmp_path: Path) -> None:
    run(scene, tmp_path / "straight", ema=0.9, warmup=5)
    killed_at(scene, tmp_path / "killed", 8, ema=0.9, warmup=5)
    result = run(scene, tmp_path / "killed", network(5), resume=True, ema=0.9, warmup=5)
    assert result.resumed_from == 6
    assert files(tmp_path / "killed") == files(tmp_path / "straight")


def test_a_state_without_its_average_is_refused(scene: Scene, tmp_path: Path) -> None:
    run(scene, tmp_path, ema=0.9)
    path = tmp_path / "state.safetensors"
    state = _state.read(path)
    state.average.popitem()
    _state.write(path, state)
    with pytest.raises(ValueError, match="its averaged weights are not those of the network"):
        run(scene, tmp_path, resume=True, ema=0.9)
    with pytest.raises(ValueError, match=r"option ema is None, there it was 0\.9"):
        run(scene, tmp_path, resume=True)


def test_the_learning_rate_rises_over_the_first_steps(scene: Scene, tmp_path: Path) -> None:
    options = options_of(warmup=4)
    result = run(scene, tmp_path, warmup=4)
    with result.log.open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file) if row["learning_rate"]]
    expected = [options.rate(step / 11) * min(1, (step + 1) / 4) for step in range(11)]
    assert rates == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("given", "message"), [({"ema": 1}, "ema must be"), ({"warmup": -1}, "warmup must be")])
def test_values_out_of_range(given, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options_of(**given)
