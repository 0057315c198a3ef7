"""The package's networks reproduce the scores of their cards, on the scenes that are at hand: CAVE's oil painting of
../shared/data, and the whole set where LKCANET_CAVE names its folder."""

import os
from pathlib import Path

import pytest

from lkcanet.data.cave import cave_folders, read_cave
from lkcanet.evaluation import score
from lkcanet.models import load_model, pretrained

PAINTING = Path(__file__).parents[4] / "shared" / "data" / "cave" / "oil_painting_ms"
PACKAGED = sorted(file.stem for file in pretrained.PACKAGED.glob("*.json"))


def scenes() -> dict[str, Path]:
    """Folders by name."""
    if named := os.environ.get("LKCANET_CAVE"):
        return cave_folders(Path(named))
    return {PAINTING.name: PAINTING} if PAINTING.is_dir() else {}


@pytest.mark.parametrize("name", PACKAGED or [None])
def test_a_card_s_scores(name: str | None) -> None:
    if name is None:
        pytest.skip("no network is in the package")
    card = pretrained.card(name)
    at_hand = {image: folder for image, folder in scenes().items() if image in card.scores.get("images", {})}
    if not at_hand:
        pytest.skip("no scene of the card is at hand")
    model = load_model(pretrained.path(name))
    for image, folder in at_hand.items():
        found = score(read_cave(folder, image), {name: model}).clean
        told = {"bicubic": (card.bicubic or {}).get("images", {}).get(image), name: card.scores["images"][image]}
        for method, expected in told.items():
            for key in ("mpsnr", "sam", "cc", "rmse", "ergas") if expected else ():
                assert found[method][key] == pytest.approx(expected[key], rel=2e-4), (image, method, key)
        assert found[name]["mpsnr"] > found["bicubic"]["mpsnr"], image
