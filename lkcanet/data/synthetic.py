"""A generated demo scene: farmland, a village, woods and a river from above, in B bands."""

import numpy as np

from lkcanet.common.optional import require
from lkcanet.data.normalise import scene_from_array
from lkcanet.data.scenes import Scene

MATERIALS = ("crop", "meadow", "wood", "soil", "stubble", "asphalt", "tile", "concrete", "metal", "water")
_CROP, _MEADOW, _WOOD, _SOIL, _STUBBLE, _ASPHALT, _TILE, _CONCRETE, _METAL, _WATER = range(len(MATERIALS))
_FINE = 3  # label maps are drawn 3 times finer and averaged, so that pixels on an edge are mixtures
_BLOCK = 112.0  # side of a block of parcels between two roads, in pixels
_BLUR = 0.7  # standard deviation of the sensor's point spread in pixels
_COUNTS = 10_000  # sensor counts of reflectance 1


def demo_scene(size: tuple[int, int] = (256, 256), bands: int = 60, seed: int = 0) -> Scene:
    """Generate a hyperspectral scene: pixels = blur(gain * sum over m of abundance_m spectrum_m) + noise.

    Ten smooth material spectra (400 to 2500 nm, reflectance) are mixed linearly. The abundances come from a map with
    sharp edges: blocks of parcels between roads, a village of houses, a river with trees; textures change them (crop
    rows, tree crowns, patches of dry ground), the illumination varies and houses cast shadows, and the sensor blurs
    (Gaussian, 0.7 pixels) and adds noise of 0.2 % of reflectance 1. Every draw comes from `default_rng(seed)`; the
    result is rounded to whole counts, so that the last bits of a platform's exp and sin hardly ever show.

    Args:
        size: (H, W) in pixels, 16 or more each.
        bands: B, 2 or more.
        seed: whole number from 0; each gives another landscape.

    Returns:
        A Scene with pixels in (0, 1] (B, H, W), `peak` in counts (10000 is reflectance 1) and wavelengths in nm.

    Raises:
        ValueError: size, bands or seed out of range.
    """
    height, width = size
    if min(height, width) < 16:
        raise ValueError(f"size must be at least 16 x 16 pixels, got {height} x {width}")
    if bands < 2:
        raise ValueError(f"bands must be 2 or more, got {bands}")
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    rng = np.random.default_rng(seed)
    wavelengths = np.linspace(400.0, 2500.0, bands)
    labels, rows, shade = _landscape(rng, height, width)
    abundances = np.stack([_shrink(labels == material) for material in range(len(MATERIALS))])
    abundances, gain = _textured(rng, abundances, _shrink(rows))
    image = np.tensordot(_spectra(wavelengths).T, abundances, axes=1) * (gain * (1 - 0.6 * _shrink(shade)))
    image = require("scipy.ndimage", extra="io").gaussian_filter(image, (0, _BLUR, _BLUR))
    image += rng.normal(0.0, 0.002, image.shape)
    counts = np.maximum(np.rint(_COUNTS * image), 1).astype(np.uint16)
    source = f"lkcanet.data.demo_scene({(height, width)}, {bands}, {seed})"
    return scene_from_array(counts, wavelengths=wavelengths, name="demo", source=source)


def _spectra(nm: np.ndarray) -> np.ndarray:
    """(materials, B) reflectances: sums of Gaussians and steps, after the shapes of spectral libraries."""

    def bump(centre: float, spread: float) -> np.ndarray:
        return np.exp(-0.5 * ((nm - centre) / spread) ** 2)

    def step(centre: float, spread: float) -> np.ndarray:
        return 1 / (1 + np.exp(-(nm - centre) / spread))

    def plant(green: float, infrared: float, water: float) -> np.ndarray:
        """Chlorophyll, the red edge at 715 nm, leaf water at 970, 1200, 1450 and 1940 nm."""
        leaf = (
            0.03 + green * bump(550, 35) + infrared * step(715, 18) * (1 - 0.45 * step(1350, 60) - 0.3 * step(1850, 50))
        )
        dips = 0.08 * bump(970, 30) + 0.12 * bump(1200, 40) + 0.6 * bump(1450, 55) + 0.75 * bump(1940, 65)
        return leaf * (1 - water * dips)

    def earth(dark: float, bright: float, clay: float) -> np.ndarray:
        """Rising over the visible, iron at 900 nm, water at 1410 and 1920 nm, clay at 2200 nm."""
        rise = dark + (bright - dark) * step(800, 220)
        return rise * (1 - 0.08 * bump(900, 70) - 0.15 * bump(1410, 35) - 0.25 * bump(1920, 45) - clay * bump(2200, 40))

    rows = {
        _CROP: plant(0.07, 0.50, 1.0),
        _MEADOW: plant(0.10, 0.36, 0.7) + 0.03 * step(600, 150),
        _WOOD: plant(0.03, 0.30, 1.1) * (1 - 0.3 * step(1300, 80)),
        _SOIL: earth(0.07, 0.26, 0.12),
        _STUBBLE: earth(0.16, 0.46, 0.05) * (1 - 0.12 * bump(2100, 70)),
        _ASPHALT: 0.07 + 0.05 * step(900, 500),
        _TILE: 0.07 + 0.24 * step(590, 25) + 0.12 * step(1100, 250) - 0.05 * bump(870, 70),
        _METAL: 0.62 + 0.14 * step(700, 150) - 0.04 * bump(850, 60) + 0.05 * step(1600, 200),
        _CONCRETE: 0.20 + 0.10 * step(560, 90) - 0.05 * bump(1430, 45) - 0.08 * bump(1930, 55) - 0.06 * bump(2330, 60),
        _WATER: 0.015 + 0.07 * bump(540, 90) * (1 - step(720, 40)),
    }
    return np.stack([rows[material] for material in range(len(MATERIALS))])


def _noise(rng: np.random.Generator, height: int, width: int, period: float) -> np.ndarray:
    """Band-limited noise around one period in pixels; mean 0, standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    band = np.exp(-0.5 * (np.log2(np.maximum(frequency, 1e-9) * period) / 0.6) ** 2)
    wave = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) * band, s=(height, width))
    return (wave - wave.mean()) / wave.std()


def _shrink(fine: np.ndarray) -> np.ndarray:
    """Mean over _FINE x _FINE: what a detector sees."""
    height, width = fine.shape[0] // _FINE, fine.shape[1] // _FINE
    return fine.reshape(height, _FINE, width, _FINE).mean((1, 3), dtype=np.float64)


def _landscape(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Material, crop-row pattern (-1 .. 1) and shadow of every fine pixel."""
    y, x = np.meshgrid(
        (np.arange(height * _FINE) + 0.5) / _FINE, (np.arange(width * _FINE) + 0.5) / _FINE, indexing="ij"
    )
    labels = np.full(y.shape, _MEADOW, np.int64)
    rows = np.zeros(y.shape)
    houses = np.zeros(y.shape, bool)
    block, inner = _voronoi(rng, y, x)
    villages = rng.permutation(block.max() + 1)[: max(1, round(0.3 * (block.max() + 1)))]
    for index in range(block.max() + 1):
        here = block == index
        turn = rng.uniform(0, np.pi)
        u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        (_village if index in villages else _fields)(rng, here, u, v, labels, rows, houses)
    labels[inner < 2.6] = _ASPHALT
    phase = rng.uniform(0, 2 * np.pi, 2)
    course = (
        0.55 * width + 0.10 * width * np.sin(y / 41 + phase[0]) + 9 * np.sin(y / 17 + phase[1]) + 0.2 * (y - height / 2)
    )
    bank = np.abs(x - course)
    labels[(bank < 11) & (labels != _ASPHALT)] = _WOOD
    labels[bank < 6] = _WATER
    labels[(bank < 9) & (inner < 1.8)] = _CONCRETE  # bridges
    houses &= bank >= 11
    cast = np.zeros_like(houses)
    for shift in range(1, 2 * _FINE + 1):  # the sun is in the north-west
        cast[shift:, shift:] |= houses[:-shift, :-shift]
    rows[(labels != _CROP) & (labels != _SOIL) & (labels != _STUBBLE)] = 0
    return labels, rows, cast & ~houses


def _voronoi(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of the cell (nearest point of a jittered grid), and the distance to the border of the cell in pixels."""
    centres = [
        ((i + rng.uniform(0.2, 0.8)) * _BLOCK, (j + rng.uniform(0.2, 0.8)) * _BLOCK)
        for i in range(-1, int(y.max() / _BLOCK) + 2)
        for j in range(-1, int(x.max() / _BLOCK) + 2)
    ]
    first, second = np.full(y.shape, np.inf), np.full(y.shape, np.inf)
    nearest = np.zeros(y.shape, np.int64)
    for index, (row, column) in enumerate(centres):
        distance = np.hypot(y - row, x - column)
        second = np.minimum(second, np.maximum(first, distance))
        nearest[distance < first] = index
        first = np.minimum(first, distance)
    return np.unique(nearest, return_inverse=True)[1].reshape(y.shape), (second - first) / 2


def _cuts(rng: np.random.Generator, values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Borders at irregular steps between low and high that cover the values."""
    start, stop = float(values.min()), float(values.max())
    steps = rng.uniform(low, high, int((stop - start) / low) + 2)
    return start - rng.uniform(0, low) + np.concatenate([[0.0], steps.cumsum()])


def _fields(
    rng: np.random.Generator,
    here: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    houses: np.ndarray,
) -> None:
    """Long parcels side by side, each with one use and rows along it; a path or a hedge between some."""
    us, vs = u[here], v[here]
    long_cuts, short_cuts = _cuts(rng, us, 44, 84), _cuts(rng, vs, 16, 36)
    i, j = np.searchsorted(long_cuts, us), np.searchsorted(short_cuts, vs)
    shape = (len(long_cuts) + 1, len(short_cuts) + 1)
    uses = rng.choice([_CROP, _MEADOW, _WOOD, _SOIL, _STUBBLE], shape, p=[0.36, 0.16, 0.12, 0.18, 0.18])
    material = uses[i, j]
    periods, phases = rng.uniform(7.0, 12.0, shape)[i, j], rng.uniform(0, 2 * np.pi, shape)[i, j]
    rows[here] = np.sin(2 * np.pi * vs / periods + phases)
    edges = np.minimum(np.abs(us - long_cuts[i - 1]), np.abs(vs - short_cuts[j - 1]))
    border = rng.choice([_MEADOW, _WOOD, _STUBBLE], shape)[i, j]
    labels[here] = np.where(edges < 1.1, border, material)


def _village(
    rng: np.random.Generator,
    here: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    houses: np.ndarray,
) -> None:
    """Plots along lanes: a house with a roof of tiles or concrete, a yard or a garden with trees."""
    us, vs = u[here], v[here]
    long_cuts, short_cuts = _cuts(rng, us, 18, 26), _cuts(rng, vs, 17, 24)
    i, j = np.searchsorted(long_cuts, us), np.searchsorted(short_cuts, vs)
    shape = (len(long_cuts) + 1, len(short_cuts) + 1)
    du, dv = us - long_cuts[i - 1], vs - short_cuts[j - 1]
    ground = rng.choice([_MEADOW, _CONCRETE, _WOOD, _ASPHALT], shape, p=[0.55, 0.15, 0.2, 0.1])[i, j]
    roof = rng.choice([_TILE, _CONCRETE, _ASPHALT, _METAL, _WOOD], shape, p=[0.55, 0.2, 0.1, 0.04, 0.11])[i, j]
    near, far = rng.uniform(3.0, 6.0, (2, *shape)), rng.uniform(12.0, 15.5, (2, *shape))
    house = (du > near[0][i, j]) & (du < far[0][i, j]) & (dv > near[1][i, j]) & (dv < far[1][i, j])
    lane = (dv < 2.8) & (j % 2 == 0)
    labels[here] = np.where(lane, _ASPHALT, np.where(house, roof, ground))
    houses[here] = house & (roof != _WOOD) & ~lane


def _textured(rng: np.random.Generator, abundances: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move abundance between materials (the sum stays 1) and return it with the illumination."""
    height, width = rows.shape
    mixed = abundances.copy()

    def move(source: int, target: int, share: np.ndarray) -> None:
        amount = abundances[source] * np.clip(share, 0, 0.9)
        mixed[source] -= amount
        mixed[target] += amount

    dry = _noise(rng, height, width, 40)
    crowns = _noise(rng, height, width, 7)
    grain = _noise(rng, height, width, 11)
    move(_CROP, _SOIL, 0.22 + 0.20 * rows + 0.10 * dry)
    move(_SOIL, _STUBBLE, 0.15 + 0.12 * rows + 0.08 * dry)
    move(_STUBBLE, _SOIL, 0.18 + 0.14 * rows + 0.08 * grain)
    move(_MEADOW, _STUBBLE, 0.18 + 0.10 * dry + 0.05 * grain)
    move(_WOOD, _MEADOW, 0.15 + 0.10 * crowns)
    lit = 1 + 0.16 * crowns * abundances[_WOOD] + 0.03 * grain * abundances[_MEADOW]
    return mixed, np.clip(lit * (0.95 + 0.04 * _noise(rng, height, width, 120)), 0.3, 1.3)
