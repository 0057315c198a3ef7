"""What a checkpoint tells of its training, and what it is to be believed."""

import dataclasses
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lkcanet.common.options import FLOOR, TrainOptions
from lkcanet.data import Encoding, Rect, Scene, TrainingRecord, demo_scene, named_response, region_split
from lkcanet.data.bands import BandChoice

pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

SCENE = demo_scene((48, 64), 4, seed=1)
TOLD: dict[str, Any] = {
    "peak": 7.5,
    "scene": {"name": SCENE.name, "shape": [4, 48, 64], "wavelengths": [400, 500, 600, 700]},
    "split": {"test": "0:48,40:64", "train": "0:25,0:34", "validation": "32:48,0:40", "patch": 16},
    "options": {"psf_sigma": 1.2, "floor": 0.03},
    "msi": {"peak": 3.0, "response": dataclasses.asdict(named_response("average-2"))},
}


def test_what_is_told_is_read() -> None:
    record = TrainingRecord(TOLD)
    assert (record.peak, record.msi_peak, record.psf_sigma, record.floor) == (7.5, 3.0, 1.2, 0.03)
    assert (record.test, record.validation, record.patch) == ("0:48,40:64", "32:48,0:40", 16)
    assert record.response == named_response("average-2")
    assert record.wavelengths == [400, 500, 600, 700]
    assert record.extra == TOLD


def test_what_is_not_told_is_none_or_the_default() -> None:
    for extra in ({}, {"peak": None, "scene": None, "split": None, "msi": None}):
        record = TrainingRecord(extra)
        values = (record.peak, record.msi_peak, record.psf_sigma, record.test, record.validation, record.patch)
        assert not any(value is not None for value in (*values, record.response, record.wavelengths))
        assert record.floor == FLOOR
        assert record.train_region((48, 64)) is None


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"peak": -1}, "net: the peak in its metadata must be a positive finite number, got -1"),
        ({"scene": 3}, "net: scene in its metadata must be an object, got 3"),
        ({"split": []}, "net: split in its metadata must be an object"),
        ({"split": {"test": 3}}, "net: the test region in its metadata must be a text, got 3"),
    ],
)
def test_damage_is_named_at_once(extra: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainingRecord(extra, "net")


def test_other_damage_is_named_when_it_matters() -> None:
    record = TrainingRecord({"options": {"psf_sigma": "wide"}, "msi": {"response": {"colour": 1}}})
    with pytest.raises(ValueError, match="psf_sigma in the checkpoint's metadata must be a positive"):
        _ = record.psf_sigma
    with pytest.raises(ValueError, match="the checkpoint's response is damaged"):
        _ = record.response


def test_the_scene_of_the_training() -> None:
    assert TrainingRecord(TOLD).is_of(SCENE)
    assert not TrainingRecord(TOLD).is_of(dataclasses.replace(SCENE, name="another"))
    assert not TrainingRecord(TOLD).is_of(SCENE.cropped(Rect(0, 40, 0, 64)))
    nameless = TrainingRecord({"scene": {"shape": [4, 48, 64]}})
    assert (nameless.is_of(SCENE), nameless.is_of(SCENE, nameless=True)) == (False, True)
    assert not TrainingRecord({}).is_of(SCENE, nameless=True)


def test_a_training_region_is_one_that_lies_beside_the_test_region() -> None:
    assert TrainingRecord(TOLD).train_region((48, 64)) == Rect(0, 25, 0, 34)
    around = TOLD | {"split": {"test": "10:20,10:20", "train": "0:48,0:64"}}  # patches on all sides of the test region
    assert TrainingRecord(around).train_region((48, 64)) is None


def test_doubts() -> None:
    split = region_split((48, 64), "0:48,40:64", patch=16, stride=8)
    same = dataclasses.replace(SCENE, peak=7.5)
    assert TrainingRecord(TOLD, "net").doubts(same, split) == []
    assert TrainingRecord({"peak": None, "split": {"test": "0:48,40:64"}}, "net").doubts(same, split) == []
    told = TrainingRecord({"peak": 3, "split": {"test": "0:8,0:8"}}, "net").doubts(same, split)
    assert told[0].startswith("net was trained with 0:8,0:8 held out, not 0:48,40:64: if that was this image")
    assert told[1:] == ["net was trained with peak 3, here it is 7.5"]
    (silent,) = TrainingRecord({}, "net").doubts(same, split)
    assert silent.startswith("net does not tell what its training held out")


def test_units_and_bands_of_the_file() -> None:
    describe = pytest.importorskip("lkcanet.training", reason="lightning is not installed").describe

    scene = Scene(np.ones((3, 24, 24), np.float32), 1.0, encoding=Encoding("int16", 1e-4))
    split = region_split((3, 24, 24), "16:,:", patch=4, stride=4, scale=2)
    for encoding, raw in (
        (scene.encoding, False),
        (Encoding("int16", 1e-4, raw=True), True),
        (Encoding("int16", raw=True), False),  # counts are all that there is
        (None, False),
    ):
        facts = describe(replace(scene, encoding=encoding), split, TrainOptions(steps=1))
        record = TrainingRecord(facts)
        assert (record.raw, record.file_bands) == (raw, 3)
        several = describe([replace(scene, encoding=encoding)] * 2, [split] * 2, TrainOptions(steps=1))
        assert (TrainingRecord(several).raw, TrainingRecord(several).file_bands) == (raw, 3)
    chosen = describe(replace(scene, band_choice=BandChoice(9, (1, 2, 5))), split, TrainOptions(steps=1))
    assert TrainingRecord(chosen).file_bands == 9
    assert TrainingRecord({}).file_bands is None
    assert TrainingRecord({"scene": None}).raw is False
