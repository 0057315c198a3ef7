"""Orthogonal steps for the weights between features."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lkcanet.data.scenes import Scene
from lkcanet.models import LKCARes
from lkcanet.training import state as _state
from lkcanet.training.muon import Muon, hidden, orthogonal

from .test_training_resume import files, killed_at
from .training_helpers import network, options_of, run

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")


@pytest.mark.parametrize("shape", [(8, 8), (5, 40), (40, 5), (64, 576)])
def test_all_directions_become_alike(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape) * torch.logspace(0, -1.5, shape[1])
    turned = orthogonal(matrix)
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = torch.linalg.svdvals(turned)
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
    along = torch.einsum("ik,ij,kj->k", left, turned.double(), right)  # the same singular vectors
    assert torch.allclose(along, values.double().sort(descending=True).values, atol=0.6)
    assert (along > 0.5).all()
    assert not orthogonal(torch.zeros(shape)).any()


def test_a_step_is_its_formula_and_adam_for_the_rest() -> None:
    torch.manual_seed(0)
    weight, bias = nn.Parameter(torch.randn(6, 4, 3, 3)), nn.Parameter(torch.randn(6))
    still = nn.Parameter(torch.randn(3, 3))
    twin = nn.Parameter(bias.detach().clone())
    optimizer, adam = Muon([weight, bias, still], [weight, still], lr=0.01), torch.optim.Adam([twin], lr=0.01)
    momentum, expected = torch.zeros(6, 36), weight.detach().flatten(1).clone()
    before = still.detach().clone()
    for _ in range(3):
        gradient, other = torch.randn(6, 4, 3, 3), torch.randn(6)
        weight.grad, bias.grad, twin.grad = gradient.clone(), other.clone(), other.clone()
        optimizer.step()
        adam.step()
        flat = gradient.flatten(1)
        momentum = 0.95 * momentum + 0.05 * flat
        expected = expected - 0.01 * 0.2 * 6.0 * orthogonal(0.95 * momentum + 0.05 * flat)
    torch.testing.assert_close(weight.detach().flatten(1), expected)
    assert torch.equal(bias, twin)
    assert torch.equal(still, before)  # it had no gradient
    assert [
        weight is own for own, weight in zip(optimizer.param_groups[0]["params"], [weight, bias, still], strict=True)
    ]


def test_first_and_last_convs_and_vectors_are_adams() -> None:
    for model in (network(), LKCARes(16, 2, 16, 1, reduction=8)):  # of as many bands as features, too
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        turned = {names[id(weight)] for weight in hidden(model)}
        assert turned
        for name, parameter in model.named_parameters():
            outer = name.startswith(("head", "upsample"))
            depthwise = ".dw" in name
            vector = parameter.dim() < 2 or "original0" in name
            assert (name in turned) == (not (outer or depthwise or vector)), name


def test_it_trains_and_a_killed_run_goes_on(scene: Scene, tmp_path: Path) -> None:
    given = {"optimizer": "muon", "learning_rate": 1e-3}
    result = run(scene, tmp_path / "straight", **given)
    killed_at(scene, tmp_path / "killed", 8, **given)
    run(scene, tmp_path / "killed", network(5), resume=True, **given)
    assert files(tmp_path / "killed") == files(tmp_path / "straight")
    adam = run(scene, tmp_path / "adam", learning_rate=1e-3)
    assert result.history[-1]["loss"] != adam.history[-1]["loss"]
    with pytest.raises(ValueError, match="option optimizer is 'muon', there it was 'adam'"):
        run(scene, tmp_path / "adam", resume=True, **given)


def test_a_state_of_other_moments_is_refused(scene: Scene, tmp_path: Path) -> None:
    run(scene, tmp_path, optimizer="muon")
    path = tmp_path / "state.safetensors"
    state = _state.read(path)
    index = next(index for index, entry in state.moments.items() if "momentum" in entry)
    state.moments[index] = {"exp_avg": state.moments[index]["momentum"]}
    _state.write(path, state)
    with pytest.raises(ValueError, match="its moments of Adam are not of the network's shapes"):
        run(scene, tmp_path, resume=True, optimizer="muon")


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="optimizer must be one of adam, muon; got 'sgd'"):
        options_of(optimizer="sgd")
