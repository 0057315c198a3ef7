"""What a run left, and its page: scores are those of `score`, everything told is text, nothing is fetched."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lkcanet.data import Scene, demo_scene, parse_rect
from lkcanet.evaluation import score
from lkcanet.models import load_model
from lkcanet.training.run_files import read_run
from lkcanet.training.run_page import Drawn, Image, curves_figure, run_page

from ..common.html_page import Page
from ..models.pretrained_helpers import NANOMETRES, checkpoint

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

LOG = """step,epoch,learning_rate,loss,l1,validation_loss,validation_mpsnr,validation_sam
0,,,,,0.02,30.5,4.5
10,0,0.001,0.03,0.02,,,
20,0,0.0009,0.025,0.01,,,
20,,,,,0.015,31.25,4.125
"""


def scene() -> Scene:
    pixels = demo_scene((40, 48), 6, seed=1).pixels
    return Scene(pixels, 1000.0, np.array(NANOMETRES), "fields", "here")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "<b>run $a$"
    out.mkdir()
    told = {"name": "fields", "shape": [6, 40, 48], "wavelengths": NANOMETRES}
    split = {"test": "0:40,24:48", "train": "0:40,0:24", "validation": "0:8,0:24", "patch": 16, "train_patches": 12}
    extra: dict[str, Any] = {"scene": told, "split": split, "step": 20, "options": {"floor": 0.02}}
    checkpoint(out / "best.safetensors", validation={"mpsnr": 31.25, "sam": 4.125, "loss": 0.015}, **extra)
    (out / "metrics.csv").write_text(LOG)
    (out / "config.yaml").write_text("# lkca train <script>alert(1)</script>\nsteps: 20\n")
    return out


def test_what_a_run_left_is_read(folder: Path) -> None:
    run = read_run(folder)
    assert [row["step"] for row in run.validations] == [0, 20]
    assert run.validations[1] == {"step": 20, "loss": 0.015, "mpsnr": 31.25, "sam": 4.125}
    assert run.steps[0] == {"step": 10, "epoch": 0, "learning_rate": 0.001, "loss": 0.03, "l1": 0.02}
    assert run.best_step == 20
    assert "steps: 20" in str(run.config)


def test_a_run_that_goes_on_has_a_last_row_in_writing(folder: Path) -> None:
    for cut in ("30,0,0.0008,0.0x", "30,0,0.0008,0.0", "30,0,0.0008,", "3"):
        (folder / "metrics.csv").write_text(LOG + cut)
        assert len(read_run(folder).steps) == 2, cut
    (folder / "metrics.csv").write_text(LOG.replace("0.03,", "0.0x3,"))
    with pytest.raises(ValueError, match=r"metrics.csv: row 3 is damaged"):
        read_run(folder)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no run: best.safetensors and metrics.csv missing"):
        read_run(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_run(tmp_path / "none")


def test_the_curves_are_those_of_the_log(folder: Path) -> None:
    first, second, third = curves_figure(read_run(folder)).axes
    assert first.lines[0].get_xydata().tolist() == [[0, 30.5], [20, 31.25]]  # type: ignore[union-attr]
    assert second.lines[0].get_xydata().tolist() == [[0, 4.5], [20, 4.125]]  # type: ignore[union-attr]
    assert third.lines[0].get_xydata().tolist() == [[10, 0.03], [20, 0.025]]  # type: ignore[union-attr]
    assert third.lines[1].get_xydata().tolist() == [[0, 0.02], [20, 0.015]]  # type: ignore[union-attr]


def test_the_page_of_a_run(folder: Path) -> None:
    run, whole = read_run(folder), scene()
    valid = np.ones(whole.size, bool)
    valid[:5, :30] = False
    whole = replace(whole, valid=valid)
    target = whole.cropped(parse_rect("0:40,24:48", whole.pixels.shape))
    images = [Image("<i>fields</i>", target, "Of the test region."), Image("again", target)]
    text = run_page(run, images, notes=["<u>a note</u>"], drawn=Drawn([(20, 3)], ["<s>"], None, "counts"))
    page = Page(text)
    assert not page.open
    assert not {"script", "b", "i", "u", "s"} & set(page.tags)
    assert page.tags.count("img") == 4
    assert all(link.startswith("data:image/") for link in page.links)
    for words in ("<b>run $a$", "<i>fields</i>", "<u>a note</u>", "Of the test region.", "0:40,24:48", "steps: 20"):
        assert words in page.words
    assert "<script>alert(1)</script>" in page.words
    expected = score(whole, {"network": load_model(run.best)}, region="0:40,24:48", floor=0.02).clean
    for name in ("bicubic", "network"):
        for key, decimals in (("mpsnr", 3), ("mssim", 4), ("sam", 3), ("ergas", 3), ("sam_above", 3)):
            assert f"{dict(expected[name])[key]:.{decimals}f}" in page.words, (name, key)
    assert expected["network"] != expected["bicubic"]
    assert "of the network on each of the 2 images" in page.words
    assert "Root mean square (counts)" in page.words
    assert "MPSNR 31.250 dB" in page.words


def test_a_run_without_images_and_options(folder: Path) -> None:
    (folder / "config.yaml").unlink()
    page = Page(run_page(read_run(folder)))
    assert page.tags.count("img") == 1
    assert "Scores" not in page.words
    assert "floor" in page.words
    assert "upsample_groups" in page.words


def test_the_starting_network_as_the_best_is_a_warning(folder: Path) -> None:
    checkpoint(folder / "best.safetensors", step=0)
    assert "the network that the training started from" in Page(run_page(read_run(folder))).words


def test_other_bands_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"fields has 2 bands, the network of .* 6"):
        run_page(read_run(folder), [Image("fields", scene().with_bands([0, 1]))])


def test_a_network_that_fuses_sees_its_msi(tmp_path: Path) -> None:
    from lkcanet.data import named_response
    from lkcanet.models import PRESETS, save_model

    torch.manual_seed(0)
    model = PRESETS["csakd-student"].make(6, 4, 4, features=8, growth=8, h_groups=4, counts=[0, 1, 1, 1])
    save_model(model, tmp_path / "best.safetensors", extra={"peak": 1000.0, "step": 1})
    (tmp_path / "metrics.csv").write_text(LOG)
    run, target, response = read_run(tmp_path), scene(), named_response("average-4")
    page = Page(run_page(run, [Image("fields", target, msi=response)]))
    expected = score(target, {"network": load_model(run.best)}, msis={"network": response}, floor=0.01).clean
    assert f"{expected['network']['mpsnr']:.3f}" in page.words
    with pytest.raises(ValueError, match="fuses an MSI of 4 bands"):
        run_page(run, [Image("fields", target)])
