"""A network on scenes of other bands: by hand, in strips, tiles and ensembles; where it adds nothing it is bicubic."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import lkops
from lkcanet.data.resampling import resampling_weights
from lkcanet.data.scenes import Scene
from lkcanet.inference import Resampled, memory, reach, resampled, strips, super_resolve
from lkcanet.models import CSAKD, LKCANet, Strips
from lkcanet.models.baselines import VDSRLR

OWN = [400.0 + 20 * band for band in range(6)]
# denser than the network's, and beyond its range on both sides
SCENE = [380.0, 402.0, 409.0, 425.0, 433.0, 441.0, 455.0, 470.0, 488.0, 500.0, 509.0, 512.0]


def network(scale: int = 2, **options) -> LKCANet:
    torch.manual_seed(0)
    model = LKCANet(6, scale, 16, 1, 1, reduction=8, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def by_hand(model, image: torch.Tensor) -> torch.Tensor:
    """In float64."""
    forth, back = resampling_weights(SCENE, OWN), resampling_weights(OWN, SCENE, outside="zero")
    x = image.double()
    own = torch.einsum("cb,nbhw->nchw", torch.from_numpy(forth), x)
    model = model.fold().double().eval()
    config = model.config
    with torch.inference_mode(), lkops.backend("reference"):
        plain = lkops.bicubic_upsample(own, scale=2, cubic_a=config["cubic_a"], border=config["border"])
        added = torch.einsum("bc,nchw->nbhw", torch.from_numpy(back), model(own) - plain)
        return lkops.bicubic_upsample(x, scale=2) + added


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "STRIP_BYTES", 1)


@pytest.mark.parametrize("options", [{}, {"cubic_a": -0.75, "border": "replicate"}])
def test_by_hand(options: dict, narrow: None) -> None:
    model, image = network(**options), torch.rand(2, 12, 26, 15)
    expected = by_hand(model, image)
    made = resampled(model, OWN, SCENE)
    with torch.inference_mode():
        torch.testing.assert_close(made(image).double(), expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(super_resolve(made, image).double(), expected, atol=2e-6, rtol=0)
    assert (made.bands, made.scale) == (12, 2)


@pytest.mark.parametrize("kind", ["lkcanet", "vdsr_lr", "no strips"])
def test_where_it_adds_nothing_the_image_is_bicubic_exactly(kind: str, narrow: None) -> None:
    model = VDSRLR(6, 2, 8, 1) if kind == "vdsr_lr" else LKCANet(6, 2, 16, 1, 1, reduction=8)
    if kind == "no strips":
        told = dataclasses.replace(model.capabilities(), strips="none")
        model.fold = lambda: model
        model.capabilities = lambda: told
    image = torch.rand(1, 12, 33, 20)
    got = super_resolve(resampled(model.eval(), OWN, SCENE), image)
    assert torch.equal(got, lkops.bicubic_upsample(image, scale=2))


def test_bands_outside_stay_bicubic_exactly() -> None:
    image = torch.rand(1, 12, 9, 11)
    got = super_resolve(resampled(network(), OWN, SCENE), image)
    same = (got == lkops.bicubic_upsample(image, scale=2)).flatten(2).all(2)[0]
    assert same.tolist() == [nm < 390 or nm > 510 for nm in SCENE]


def test_the_network_s_own_bands_are_its_image() -> None:
    model, image = network(), torch.rand(1, 6, 17, 12)
    got = super_resolve(resampled(model, OWN, OWN), image)
    torch.testing.assert_close(got, super_resolve(model, image), atol=2e-6, rtol=0)


def test_strips_tiles_files_and_ensembles_are_of_the_same_network(tmp_path: Path, narrow: None) -> None:
    made = resampled(network(), OWN, SCENE)
    whole = dataclasses.replace(made.capabilities(), strips="none")
    scene = Scene(np.random.default_rng(0).random((12, 40, 21), np.float32), 1.0, np.array(SCENE))
    image = scene.tensor()
    for options in ({}, {"tile": (16, 16)}, {"ensemble": True}):
        cut = super_resolve(made, scene, **options)
        assert cut.wavelengths.tolist() == SCENE
        assert np.array_equal(super_resolve(made, scene, out=tmp_path / "sr.npy", **options).pixels, cut.pixels)
        plain = Resampled(made.network.fold().eval(), made.forth, made.back).eval()
        plain.capabilities = lambda: whole
        np.testing.assert_allclose(cut.pixels, super_resolve(plain, image, **options)[0].numpy(), atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"cubic_a": -0.75, "border": "replicate"}])
def test_a_network_that_names_no_residual(options: dict, narrow: None) -> None:
    """Its own kind of bicubic image is subtracted."""
    model = network(**options).fold().eval()
    told = model.capabilities()
    assert isinstance(told.strips, Strips)
    without = dataclasses.replace(told, strips=dataclasses.replace(told.strips, residual=None), residual_image="no")
    image = torch.rand(1, 12, 30, 14)
    expected = super_resolve(resampled(model, OWN, SCENE), image)
    model.capabilities = lambda: without
    torch.testing.assert_close(super_resolve(resampled(model, OWN, SCENE), image), expected, atol=2e-6, rtol=0)


def test_with_an_msi() -> None:
    torch.manual_seed(0)
    model = CSAKD(6, 3, 2, features=8).eval()
    image, msi = torch.rand(1, 12, 8, 6), torch.rand(1, 3, 16, 12)
    forth = torch.from_numpy(resampling_weights(SCENE, OWN)).float()
    back = torch.from_numpy(resampling_weights(OWN, SCENE, outside="zero")).float()
    own = torch.einsum("cb,nbhw->nchw", forth, image)
    with torch.inference_mode():
        added = model.fold().eval()(own, msi) - lkops.bicubic_upsample(own, scale=2)
    expected = lkops.bicubic_upsample(image, scale=2) + torch.einsum("bc,nchw->nbhw", back, added)
    got = super_resolve(resampled(model, OWN, SCENE), image, msi=msi)
    torch.testing.assert_close(got, expected, atol=2e-6, rtol=0)


def test_what_it_tells_of_itself() -> None:
    model = network()
    made = resampled(model, OWN, SCENE)
    assert reach(made) == reach(model)
    assert made.parameter_count() == model.parameter_count()
    assert made.macs(8, 4) == model.macs(8, 4) + 8 * 4 * 12 * 6 * (1 + 4)
    more, less = memory(made, 64, 64), memory(model, 64, 64)
    assert more.output == 2 * less.output
    assert more.blocks == less.blocks + less.input
    assert more.upsampling > less.upsampling


def test_what_does_not_fit() -> None:
    model = network()
    with pytest.raises(ValueError, match="own must be the wavelengths of the network's 6 bands, got 5"):
        resampled(model, OWN[:5], SCENE)
    with pytest.raises(ValueError, match=r"400 to 500 nm, can't be made of the scene's, 1000 to 1100 nm, which see 0%"):
        resampled(model, OWN, [1000.0, 1050.0, 1100.0])
    resampled(model, OWN, [440.0, 460.0, 480.0, 500.0])
    with pytest.raises(ValueError, match="forth must be"):
        Resampled(model, torch.zeros(6, 3), torch.zeros(6, 3))
