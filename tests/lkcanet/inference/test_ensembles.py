"""The mean over eight orientations: values by hand, in strips, tiles and files; its memory."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.data import dihedral
from lkcanet.data.scenes import Scene
from lkcanet.inference import Ensembled, ensembles, memory, shortage, strips, super_resolve, tiles
from lkcanet.inference import footprint as footprints
from lkcanet.models import CSAKD, LKCANet
from lkcanet.models.baselines import VDSRLR

INVERSE = (0, 3, 2, 1, 4, 5, 6, 7)


def network(bands: int = 5, scale: int = 2) -> LKCANet:
    torch.manual_seed(0)
    model = LKCANet(bands, scale, 16, 1, 1, reduction=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def by_hand(model, image: torch.Tensor) -> torch.Tensor:
    folded = model.fold().eval()
    with torch.inference_mode():
        return sum(dihedral(folded(dihedral(image, k).contiguous()), INVERSE[k]) / 8 for k in range(8))


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of 8 rows, so that small images have several."""
    monkeypatch.setattr(strips, "STRIP_BYTES", 1)


@pytest.mark.parametrize("k", range(8))
def test_where_rows_of_a_turned_image_come_from(k: int) -> None:
    image = torch.arange(6 * 10).view(6, 10)
    turned = dihedral(image, k)
    for row, height in ((0, 2), (1, 3), (len(turned) - 2, 2)):
        part = turned[row : row + height]
        assert torch.equal(image[ensembles.place_of((6, 10), k, row, height)], ensembles.turned_back(part, k))
    assert torch.equal(ensembles.turned_back(turned, k), image)


@pytest.mark.parametrize("shape", [(1, 5, 9, 9), (2, 5, 30, 17), (1, 5, 17, 30)])
def test_the_mean_of_eight(shape: tuple[int, ...], narrow: None) -> None:
    model, image = network(), torch.rand(shape)
    expected = by_hand(model, image)
    got = super_resolve(model, image, ensemble=True)
    assert torch.equal(got, expected)
    assert torch.equal(super_resolve(Ensembled(model), image), expected)
    with torch.inference_mode():
        assert torch.equal(Ensembled(model).fold().eval()(image), expected)
    assert not torch.allclose(got, super_resolve(model, image), atol=1e-4)
    # turning the image turns the result: no orientation counts more than another
    turned = super_resolve(model, dihedral(image, 5).contiguous(), ensemble=True)
    torch.testing.assert_close(turned, dihedral(got, 5), atol=1e-6, rtol=0)


def test_a_network_without_strips_and_half_precision() -> None:
    model = network()
    model.capabilities = lambda: dataclasses.replace(LKCANet.capabilities(model), strips="none", receptive_field="all")
    image = torch.rand(1, 5, 12, 9)
    folded = model.fold().eval()
    torch.testing.assert_close(super_resolve(model, image, ensemble=True), by_hand(model, image), atol=1e-6, rtol=0)
    half = super_resolve(folded, image.half(), ensemble=True)
    assert half.dtype is torch.float16
    expected = by_hand(model, image.half().float())  # rounded once, not at every addition
    assert torch.equal(half, expected.half())


def test_with_an_msi() -> None:
    torch.manual_seed(0)
    model = CSAKD(4, 3, 2, features=8).eval()
    image, msi = torch.rand(1, 4, 8, 6), torch.rand(1, 3, 16, 12)
    folded = model.fold().eval()
    with torch.inference_mode():
        pairs = [(dihedral(image, k).contiguous(), dihedral(msi, k).contiguous()) for k in range(8)]
        expected = sum(dihedral(folded(*pair), INVERSE[k]) / 8 for k, pair in enumerate(pairs))
    got = super_resolve(model, image, msi=msi, ensemble=True)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("tile", [None, (12, 16)])
def test_in_files_and_tiles(tile: tuple[int, int] | None, tmp_path: Path, narrow: None) -> None:
    """A tile's result is the mean of its eight, blended as always."""
    model = network()
    pixels = torch.rand(1, 5, 26, 33)
    scene = Scene(pixels[0].numpy(), 1.0)
    whole = super_resolve(model, scene, tile=tile, ensemble=True)
    mapped = super_resolve(model, scene, tile=tile, ensemble=True, out=tmp_path / "sr.npy")
    assert np.array_equal(mapped.pixels, whole.pixels)
    expected = by_hand(model, pixels)
    if tile is not None:
        expected = torch.zeros_like(expected)
        heights, widths = tiles.spans(26, 12, 3), tiles.spans(33, 16, 3)
        for (top, bottom), down in zip(heights, tiles.weights(heights, 2), strict=True):
            for (left, right), across in zip(widths, tiles.weights(widths, 2), strict=True):
                part = by_hand(model, pixels[:, :, top:bottom, left:right])
                expected[:, :, 2 * top : 2 * bottom, 2 * left : 2 * right] += part * across * down[:, None]
    np.testing.assert_allclose(whole.pixels, expected[0].numpy(), atol=1e-6)


def test_progress_rises_to_one(narrow: None) -> None:
    told: list[tuple[float, str]] = []
    super_resolve(network(), torch.rand(1, 5, 20, 9), ensemble=True, progress=lambda *each: told.append(each))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert shares.count(1) == 1
    assert any(what.startswith("orientation 8 of 8") for _, what in told)


def test_it_costs_eight_times_the_work() -> None:
    model = network()
    assert Ensembled(model).macs(16, 16) == 8 * model.macs(16, 16)
    assert Ensembled(model).parameter_count() == model.parameter_count()


@pytest.mark.parametrize("size", [(64, 48), (48, 64)])
def test_memory_of_it(size: tuple[int, int]) -> None:
    """The output is there beside the blocks, and a turned copy of the image."""
    model = network(8, 4)
    plain, said = memory(model, *size), memory(model, *size, ensemble=True)
    image = 4 * 8 * 64 * 48
    assert said == memory(Ensembled(model), *size) == memory(model, *size[::-1], ensemble=True)
    assert said.blocks >= plain.blocks + image
    assert said.peak == said.weights + said.input + said.output + said.blocks + said.upsampling
    large = memory(model, 2000, 2000, ensemble=True)
    assert large.peak == large.weights + large.input + large.output + max(large.blocks, large.upsampling)
    assert said.peak > plain.peak
    tiled = memory(model, *size, tile=(32, 16), ensemble=True)
    assert tiled.peak > memory(model, *size, tile=(32, 16)).peak
    assert memory(model, *size, ensemble=True, mapped=True).output == 0


def test_advice_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(8, 4)
    between = (memory(model, 96, 96).peak + memory(model, 96, 96, ensemble=True).peak) // 2
    monkeypatch.setattr(footprints, "available", lambda: (between, 0))
    assert shortage(model, 96, 96) is None
    lack = shortage(model, 96, 96, ensemble=True)
    assert lack is not None
    assert lack.needed == memory(model, 96, 96, ensemble=True).peak


def test_a_local_network(narrow: None) -> None:
    torch.manual_seed(0)
    model = VDSRLR(3, 2, 8, 1).eval()
    torch.nn.init.normal_(model.convs[-1].weight, std=0.1)
    image = torch.rand(1, 3, 40, 23)
    torch.testing.assert_close(super_resolve(model, image, ensemble=True), by_hand(model, image), atol=1e-5, rtol=0)
