"""The papers' protocols by index: crops, test images, patches, and which files are accepted."""

import numpy as np
import pytest

from lkcanet.data import PROTOCOLS, Rect, matlab_range
from lkcanet.data.protocols import protocol_named
from lkcanet.evaluation.reported import reported
from lkcanet.models import lkca_lr, lkca_net


def test_matlab_ranges_start_at_one_and_include_the_end() -> None:
    assert matlab_range(107, 2410) == (106, 2410)
    assert matlab_range(1, 1) == (0, 1)
    indices = np.arange(1, 2518)  # MATLAB's row numbers, in the place where Python finds them
    rows = indices[slice(*matlab_range(107, 2410))]
    assert (rows[0], rows[-1], len(rows)) == (107, 2410, 2304)
    for first, last in ((0, 5), (5, 4), (-1, 2)):
        with pytest.raises(ValueError, match=f"{first}:{last}"):
            matlab_range(first, last)


def test_the_papers_numbers() -> None:
    chikusei, houston, pavia = (PROTOCOLS[name] for name in ("chikusei", "houston2018", "pavia_center"))
    assert chikusei.crop == Rect(106, 2410, 143, 2191)
    assert (chikusei.bands, *chikusei.shape, *chikusei.size) == (128, 2517, 2335, 2304, 2048)
    assert chikusei.tests == tuple(Rect(0, 512, left, left + 512) for left in (0, 512, 1024, 1536))
    assert chikusei.train == Rect(512, 2304, 0, 2048)
    assert (houston.bands, *houston.shape, *houston.size) == (48, 4172, 1202, 4172, 1202)
    assert houston.tests == tuple(
        Rect(top, top + 256, left, left + 256) for top in (0, 256) for left in (0, 256, 512, 768)
    )
    assert houston.train == Rect(512, 4172, 0, 1202)
    assert (pavia.bands, *pavia.shape, *pavia.size) == (102, 1096, 715, 1096, 715)
    assert pavia.tests == tuple(Rect(0, 224, left, left + 224) for left in (0, 224, 448))
    assert pavia.train == Rect(224, 1096, 0, 715)


@pytest.mark.parametrize(
    ("name", "scale", "count"),
    [
        ("chikusei", 4, 3465),
        ("chikusei", 8, 837),
        ("houston2018", 4, 4068),
        ("houston2018", 8, 56 * 17),
        ("pavia_center", 4, 546),
        ("pavia_center", 8, 12 * 10),
    ],
)
def test_patches_fill_the_training_region_and_touch_no_test_image(name: str, scale: int, count: int) -> None:
    protocol = PROTOCOLS[name]
    origins = protocol.origins(scale)
    patch, stride = protocol.patch_and_stride(scale)
    assert (patch, stride) == (16 * scale, 8 * scale)
    assert len(origins) == count == len(np.unique(origins, axis=0))
    assert tuple(origins.min(0)) == (protocol.train.top, protocol.train.left)
    assert 0 <= protocol.train.bottom - (origins[:, 0].max() + patch) < stride
    assert 0 <= protocol.train.right - (origins[:, 1].max() + patch) < stride
    used = np.zeros(protocol.size, np.uint8)
    used[protocol.train.slices] = 1
    for rect in protocol.tests:
        assert not used[rect.slices].any()
        used[rect.slices] = 2
    discarded = int((used == 0).sum())
    assert discarded == {"chikusei": 0, "houston2018": 512 * 178, "pavia_center": 224 * 43}[name]


def test_a_scale_or_a_name_without_a_protocol_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"scale must be 4 or 8 in protocol chikusei, got 3"):
        PROTOCOLS["chikusei"].origins(3)
    with pytest.raises(ValueError, match=r"chikusei, houston2018, pavia_center; got 'pavia'"):
        protocol_named("pavia")


def test_files_that_are_accepted() -> None:
    chikusei, houston, pavia = (PROTOCOLS[name] for name in ("chikusei", "houston2018", "pavia_center"))
    whole = chikusei.place(128, 2517, 2335)
    assert (whole.rows, whole.columns, whole.bands, whole.transposed) == ((106, 2410), ((143, 2191),), 128, False)
    cropped = chikusei.place(128, 2304, 2048)
    assert (cropped.rows, cropped.columns) == ((0, 2304), ((0, 2048),))
    assert "cropped image already" in cropped.remarks[0]
    upright = houston.place(50, 4172, 1202)
    assert (upright.rows, upright.columns, upright.bands, upright.transposed) == ((0, 4172), ((0, 1202),), 48, False)
    turned = houston.place(48, 1202, 4172)
    assert (turned.rows, turned.columns, turned.transposed) == ((0, 4172), ((0, 1202),), True)
    assert "exchanged" in turned.remarks[0]
    joined = pavia.place(102, 1096, 1096, [(0, 223), (604, 1096)])
    assert joined.columns == ((0, 223), (604, 1096))
    # columns are joined first, then cropped
    parts = chikusei.place(128, 2517, 2400, [(10, 210), (265, 2400)])
    assert parts.columns == ((153, 210), (265, 2256))
    assert sum(stop - start for start, stop in parts.columns) == 2048


@pytest.mark.parametrize(
    ("name", "shape", "keep", "message"),
    [
        ("chikusei", (128, 2335, 2517), None, "axes seem to be exchanged"),
        ("chikusei", (2517, 2335, 128), None, "of 128 bands, the file has 2517 bands.*give --axes"),
        ("chikusei", (128, 2304, 2000), None, "2517 x 2335 pixels, or 2304 x 2048 when cropped; the file make 2304"),
        ("houston2018", (48, 601, 2384), None, "labelled part of the contest's image only"),
        ("houston2018", (50, 1202, 4768), None, "0.5 m grid"),
        ("houston2018", (49, 4172, 1202), None, "48 or 50 bands, the file has 49"),
        ("pavia_center", (102, 1096, 1096), None, "--columns 0:223,604:1096"),
        ("pavia_center", (102, 610, 340), None, "Pavia University"),
        ("pavia_center", (103, 610, 340), None, "of 102 bands, the file has 103"),
        ("pavia_center", (102, 715, 1096), None, "axes seem to be exchanged"),
        ("pavia_center", (102, 1096, 1096), [(0, 700)], "columns kept make 1096 rows x 700"),
        ("pavia_center", (102, 1096, 1096), [(604, 1096), (0, 223)], "ascending ranges inside 0:1096"),
        ("pavia_center", (102, 1096, 1096), [(0, 223), (605, 1097)], "ascending ranges inside 0:1096"),
        ("pavia_center", (102, 1096, 1096), [(0, 0), (381, 1096)], "ascending ranges"),
    ],
)
def test_files_that_are_not_say_what_they_are(name, shape, keep, message) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        PROTOCOLS[name].place(*shape, keep)


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_the_papers_tables_are_typed_as_they_hang_together(name: str) -> None:
    bands, four, eight = PROTOCOLS[name].bands, reported(name, 4), reported(name, 8)
    assert [row.method for row in four] == [row.method for row in eight]
    assert len(four) == 9
    for scale, rows in ((4, four), (8, eight)):
        table = {row.method: row for row in rows}
        for method, model in (("LKCA-Net", lkca_net(bands, scale)), ("LKCA-LR", lkca_lr(bands, scale))):
            assert table[method].parameters == pytest.approx(model.parameter_count() / 1e6, abs=6e-4)
            assert table[method].macs == pytest.approx(model.macs(16, 16) / 1e9, abs=6e-4)
        assert table["LKCA-KD"][1:3] == table["LKCA-LR"][1:3]
        weights = 576 * bands + 18 * 36864 + 576 * bands * scale**2  # of VDSR at LR resolution
        assert table["VDSR"].parameters == pytest.approx(weights / 1e6, abs=6e-4)
        assert table["VDSR"].macs == pytest.approx(256 * weights / 1e9, abs=6e-4)
        assert table["bicubic"].parameters is None
        for row in rows:  # the mean of the bands' dB is a little above that of the whole; a mistyped digit is not
            assert 1.05 < row.scores["rmse"] / 10 ** (-row.scores["mpsnr"] / 20) < 1.25, row
            assert 0.6 < row.scores["mssim"] < 1
            assert 0.8 < row.scores["cc"] < 1
            assert row.method == "bicubic" or row.scores["mpsnr"] > table["bicubic"].scores["mpsnr"]
    for a, b in zip(four, eight, strict=True):  # ERGAS has the factor 100 / r
        ratio = (b.scores["ergas"] / a.scores["ergas"]) / (b.scores["rmse"] / a.scores["rmse"])
        assert 0.47 < ratio < 0.52, (a, b)
    assert reported(name, 2) == []


def test_the_command_line_names_every_protocol() -> None:
    prepare = pytest.importorskip("lkcanet.commands.prepare", reason="typer is not installed").prepare
    assert all(name in prepare.__annotations__["protocol"].__metadata__[0].help for name in PROTOCOLS)
