"""Features that start uncorrelated."""

from pathlib import Path

import pytest
import torch

from lkcanet.data import Scene
from lkcanet.models import Lacking, LKCANet, load_model
from lkcanet.models.baselines import VDSRLR
from lkcanet.training import train
from lkcanet.training.material import ScenePatches, read_material
from lkcanet.training.whitening import whiten

from .test_training_resume import files, killed_at
from .training_helpers import network, options_of, run, split_of

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")


@pytest.fixture(scope="module")
def patches(scene: Scene) -> ScenePatches:
    return read_material(network(), [scene], [split_of(scene)], 4).patches


def features(model: LKCANet, patches: ScenePatches) -> torch.Tensor:
    """(pixels, C) of the first conv where no padding takes part."""
    images = torch.stack([patches[index].lowres for index in range(len(patches))])
    with torch.no_grad():
        return model.head(images)[..., 1:-1, 1:-1].transpose(0, 1).flatten(1).T.double()


def test_the_features_have_mean_zero_and_the_covariance_of_the_formula(patches) -> None:
    model = network()
    whiten(model, patches, 0.25, eps=1e-6)
    seen = features(model, patches)
    assert seen.mean(0).abs().max() < 1e-4
    covariance = torch.cov(seen.T, correction=0)
    spread = covariance.diagonal()
    assert torch.all(spread[:3] > 0.9 * 0.25**2)  # far above eps: the formula's w / (w + eps w_1)
    assert torch.all(spread < 1.001 * 0.25**2)
    assert torch.all(spread[1:] <= spread[:-1] * 1.001)
    assert (covariance - torch.diag(spread)).abs().max() < 1e-4 * 0.25**2


def test_fewer_values_than_filters_leave_the_rest(patches) -> None:
    torch.manual_seed(0)
    model = LKCANet(8, 2, 128, 1, reduction=8)  # 72 values at a pixel
    before = model.head.weight.detach().clone()
    whiten(model, patches, 0.1)
    assert torch.equal(model.head.weight[72:], before[72:])
    assert not torch.equal(model.head.weight[:72], before[:72])
    assert model.head.weight.isfinite().all()


def test_it_learns_sooner(scene: Scene, tmp_path: Path) -> None:
    """What it is for: the loss after the same few steps."""
    given = {"steps": 60, "validate_every": 60, "learning_rate": 1e-3, "warmup": 10}
    model = {"weight_norm": False, "drop_path": 0.0}
    plain = run(scene, tmp_path / "plain", network(**model), **given)
    white = run(scene, tmp_path / "white", network(**model), whiten=0.1, **given)
    assert white.history[-1]["mpsnr"] > plain.history[-1]["mpsnr"] + 0.1


def test_a_killed_run_goes_on(scene: Scene, tmp_path: Path) -> None:
    run(scene, tmp_path / "straight", whiten=0.1)
    killed_at(scene, tmp_path / "killed", 8, whiten=0.1)
    run(scene, tmp_path / "killed", network(5), resume=True, whiten=0.1)
    assert files(tmp_path / "killed") == files(tmp_path / "straight")
    fresh = network()
    assert not torch.equal(load_model(tmp_path / "straight" / "best.safetensors").head.weight, fresh.head.weight)


def test_what_does_not_go(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(Lacking, match="has no head to whiten"):
        train(VDSRLR(8, 2), scene, split_of(scene), options_of(whiten=0.1), tmp_path)
    with pytest.raises(ValueError, match=r"options\.whiten .* init"):
        train(network(), scene, split_of(scene), options_of(whiten=0.1), tmp_path, init=tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="whiten must be a positive finite number"):
        options_of(whiten=0)
    assert not list(tmp_path.iterdir())
