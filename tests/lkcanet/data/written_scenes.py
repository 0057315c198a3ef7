"""What the tests of the writers of ENVI, GeoTIFF and netCDF share: a scene with everything, and what is the same."""

import numpy as np

from lkcanet.data import Georeference, Scene, scene_from_array


def masked_scene(georeference: Georeference, *, name: str, source: str, band_names: list[str]) -> Scene:
    """(4 bands, 5 rows, 6 columns) of uint16, all values different, four pixels without data."""
    cube = (np.random.default_rng(0).permutation(4 * 5 * 6).reshape(4, 5, 6) * 500 + 7).astype(np.uint16)
    valid = np.ones((5, 6), bool)
    valid[1:3, 2:4] = False
    return scene_from_array(
        cube,
        wavelengths=[400.5, 500, 600.1, 1e4 / 3],
        name=name,
        source=source,
        band_names=band_names,
        valid=valid,
        georeference=georeference,
    )


def check_same(again: Scene, part: Scene) -> None:
    assert again.pixels.tobytes() == part.pixels.tobytes()
    assert (again.peak, again.name, again.source) == (part.peak, part.name, part.source)
    np.testing.assert_array_equal(again.wavelengths, part.wavelengths)  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.valid, part.valid)  # type: ignore[arg-type]
    assert again.band_names == part.band_names
    assert again.georeference == part.georeference
