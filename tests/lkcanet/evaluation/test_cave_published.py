"""SSPSR's bicubic rows of CAVE, to the printed digit, from the published data. Skipped where they are not at hand.

LKCANET_CAVE=folder names the complete set; three of its scenes lie beside the checkout, in ../shared/data/cave.
"""

import os
from pathlib import Path

import pytest

from lkcanet.data import PreparedSet, prepare_cave, read_scene
from lkcanet.evaluation import mean_scores, score, score_tests
from lkcanet.evaluation.reported import reported

DIGITS = {"cc": 4, "sam": 4, "rmse": 4, "ergas": 4, "mpsnr": 4, "mssim": 4}


@pytest.fixture
def whole_set() -> Path:
    named = os.environ.get("LKCANET_CAVE")
    if not named:
        pytest.skip("the CAVE set is not at hand: LKCANET_CAVE does not name its folder")
    return Path(named)


@pytest.mark.parametrize("scale", [4, 8])
def test_bicubic_is_the_published_row(whole_set: Path, tmp_path: Path, scale: int) -> None:
    prepared = prepare_cave(whole_set, tmp_path / "set", scale=scale)
    assert isinstance(prepared, PreparedSet)
    mean = mean_scores(score_tests(prepared, {})["bicubic"])
    row = reported("cave", scale)[0]
    assert row.method == "bicubic"
    printed = {name: round(dict(mean)[name], digits) for name, digits in DIGITS.items()}  # type: ignore[arg-type]
    assert printed == row.scores
    uniform = mean_scores(score_tests(prepared, {}, ssim="uniform")["bicubic"])["mssim"]
    assert round(uniform, 4) == {4: 0.9303, 8: 0.8494}[scale]  # which the published table does not have


def test_a_native_scene() -> None:
    """The figures of the data's README."""
    folder = Path(__file__).parents[4] / "shared" / "data" / "cave" / "oil_painting_ms"
    if not folder.is_dir():
        pytest.skip(f"real scenes are not at hand: {folder} does not exist")
    scene = read_scene(folder, peak=65535)
    assert scene.pixels.shape == (31, 512, 512)
    scores = score(scene, scale=4).clean["bicubic"]
    printed = {name: round(dict(scores)[name], digits) for name, digits in DIGITS.items()}  # type: ignore[arg-type]
    assert printed == {"mpsnr": 33.0627, "sam": 5.6979, "cc": 0.9755, "rmse": 0.0241, "ergas": 5.7590, "mssim": 0.8217}
    assert round(score(scene, scale=4, ssim="matlab").clean["bicubic"]["mssim"], 4) == 0.8178
