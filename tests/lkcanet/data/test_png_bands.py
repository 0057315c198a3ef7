"""Folders of PNG images whose bands are coloured."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

from lkcanet.data import read_scene, scene_paths

from .set_helpers import rgba

BANDS = np.random.default_rng(0).integers(0, 256, (3, 6, 7), np.uint8)


def write(folder: Path, images: list[np.ndarray]) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        imageio.imwrite(folder / f"band_{number}.png", image)
    return folder


@pytest.mark.parametrize("alpha", [0, 7, 255])
def test_equal_channels_are_the_greyscale_image(tmp_path: Path, alpha: int) -> None:
    grey = np.dstack([BANDS[1], np.full((6, 7), alpha, np.uint8)])  # with an alpha channel
    folder = write(tmp_path / "s", [rgba(BANDS[0], alpha), grey, np.dstack([BANDS[2]] * 3)])
    scene = read_scene(folder, peak=255)
    np.testing.assert_array_equal(scene.pixels, (BANDS / 255).astype(np.float32))
    assert scene.pixels.flags.c_contiguous


def test_a_palette_of_greys_is_one_too(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "s"
    folder.mkdir()
    picture = image.fromarray(BANDS[0] // 64)
    picture.putpalette([value for level in (5, 90, 180, 250) for value in (level,) * 3])
    picture.save(folder / "band.png")
    expected = np.array([5, 90, 180, 250])[BANDS[0] // 64]
    np.testing.assert_array_equal(read_scene(folder, peak=1).pixels[0], expected)


def test_other_colours_are_refused(tmp_path: Path) -> None:
    coloured = rgba(BANDS[0])
    coloured[5, 6, 1] ^= 1
    with pytest.raises(ValueError, match=r"band_1.png: a band must be a greyscale image.*channels of this one differ"):
        read_scene(write(tmp_path / "a", [BANDS[1], coloured]))
    veiled = rgba(BANDS[0])
    veiled[5, 6, 3] = 254
    with pytest.raises(ValueError, match=r"band_0.png: a band must be a greyscale.*alpha channel is not constant"):
        read_scene(write(tmp_path / "b", [veiled]))


def test_colour_of_16_bits_is_refused_not_halved(tmp_path: Path) -> None:
    """Pillow gives 8 of its bits."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + struct.pack(">6H", 1000, 1000, 1000, 7, 7, 7) for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "band.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    assert imageio.imread(folder / "band.png", plugin="pillow").dtype == np.uint8
    with pytest.raises(ValueError, match=r"band.png: .*16-bit colour.*convert it to 16-bit greyscale"):
        read_scene(folder)


def test_a_picture_beside_the_bands_is_left_out(tmp_path: Path) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (9, 9, 3), np.uint8)  # of another size, even
    folder = write(tmp_path / "s", list(BANDS))
    imageio.imwrite(folder / "band_0_RGB.png", picture)
    imageio.imwrite(folder / "band_1_RGB.bmp", picture)
    with pytest.warns(UserWarning, match="left out, since") as told:
        scene = read_scene(folder, peak=255)
    np.testing.assert_array_equal(scene.pixels, (BANDS / 255).astype(np.float32))
    texts = sorted(str(each.message) for each in told)
    assert texts[0].endswith("since bands are PNG images: band_1_RGB.bmp")
    assert texts[1].endswith("since they are coloured pictures beside the bands: band_0_RGB.png")


def test_folders_in_folders_as_cave_is_packed(tmp_path: Path) -> None:
    write_in = tmp_path / "cave" / "complete"
    for name in ("a_ms", "b_ms"):
        (write_in / name).mkdir(parents=True)
        write(write_in / name / name, list(BANDS))
    (write_in / "a_ms" / "Thumbs.db").touch()
    scene = read_scene(write_in / "a_ms", peak=255)
    np.testing.assert_array_equal(scene.pixels, (BANDS / 255).astype(np.float32))
    assert scene.name == "a_ms"
    expected = [write_in / name / name for name in ("a_ms", "b_ms")]
    assert scene_paths([write_in]) == scene_paths([tmp_path / "cave"]) == expected
    with pytest.raises(ValueError, match=r"holds no \.png image"):
        read_scene(write_in)
