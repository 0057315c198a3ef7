"""`shortage`: what lacks of memory, and the tile that is advised."""

import pytest
import torch

from lkcanet.inference import footprint, memory, shortage
from lkcanet.models import LKCANet


def network() -> LKCANet:
    torch.manual_seed(0)
    return LKCANet(4, 2, 16, 1, 1, reduction=8).eval()


def test_nothing_lacks_where_there_is_enough_or_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    needed = memory(model, 200, 150).peak
    for there in (None, (needed, 0)):
        monkeypatch.setattr(footprint, "available", lambda there=there: there)
        assert shortage(model, 200, 150) is None
    monkeypatch.setattr(footprint, "available", lambda: (needed - 100, 0))
    assert shortage(model, 200, 150, taken=100) is None
    found = shortage(model, 200, 150, taken=99)
    assert found is not None
    assert (found.needed, found.free, found.swap) == (needed - 99, needed - 100, 0)


@pytest.mark.parametrize("mapped", [False, True])
def test_the_advised_tile_is_the_largest_that_fits(mapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    whole = memory(model, 300, 300, mapped=mapped).peak
    free = int(0.7 * whole)
    monkeypatch.setattr(footprint, "available", lambda: (free, 0))
    found = shortage(model, 300, 300, mapped=mapped)
    assert found is not None
    assert found.tile is not None
    assert found.tile % 32 == 0
    fits, larger = (memory(model, 300, 300, tile=(s, s), mapped=mapped).peak for s in (found.tile, found.tile + 32))
    assert fits <= 0.8 * free < larger
    assert shortage(model, 300, 300, tile=(found.tile, found.tile), mapped=mapped) is None


def test_no_tile_is_advised_that_is_no_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a strip that does not fit, a square of its short side or more is no advice."""
    model = network()
    strip, square = (memory(model, 300, 300, tile=tile, mapped=True).peak for tile in ((40, 300), (64, 64)))
    free = int(square / 0.8) + 1
    assert free < strip
    monkeypatch.setattr(footprint, "available", lambda: (free, 0))
    found, without = (shortage(model, 300, 300, tile=tile, mapped=True) for tile in ((40, 300), (65, 300)))
    assert found is not None
    assert without is not None
    assert (found.tile, without.tile) == (None, 64)


def test_swap_is_the_last_hope(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    needed = memory(model, 64, 64).peak
    for swap, hopeless in ((needed, False), (10, True)):
        monkeypatch.setattr(footprint, "available", lambda swap=swap: (20, swap))
        found = shortage(model, 64, 64)
        assert found is not None
        assert (found.hopeless, found.tile) == (hopeless, None)
