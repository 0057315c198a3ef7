"""What the figures of a report draw."""

from pathlib import Path

import numpy as np

from lkcanet.data import load_prepared
from lkcanet.reproduce.figures import differences, super_resolved


def test_differences_of_bands(prepared: Path) -> None:
    target, results = super_resolved(load_prepared(prepared), {})
    assert list(results) == ["bicubic"]
    off = target.pixels + np.arange(target.bands, dtype=np.float32)[:, None, None]
    (axis,) = differences(target, {"bicubic": results["bicubic"], "off": off}).axes
    first, second = (line.get_ydata() for line in axis.lines)
    np.testing.assert_allclose(first, np.abs(results["bicubic"] - target.pixels).mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(second, np.arange(target.bands), rtol=1e-5, atol=1e-5)
