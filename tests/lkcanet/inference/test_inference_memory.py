"""Inference at scale: an output made in strips, results in files, and memory that is as it was said."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.data import read_scene, write_scene
from lkcanet.data.georeference import Georeference
from lkcanet.data.scenes import Scene
from lkcanet.inference import footprint, memory, reach, strips, super_resolve
from lkcanet.inference import mapped as _mapped
from lkcanet.models import LKCANet, lkca_lr

ROOT = Path(__file__).parents[3]


def network(*args: int, **options) -> LKCANet:
    torch.manual_seed(0)
    model = LKCANet(*args, reduction=8, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def model() -> LKCANet:
    return network(6, 2, 16, 2, 2)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    pixels = np.random.default_rng(0).random((6, 27, 14), np.float32)
    valid = np.ones((27, 14), bool)
    valid[:3, :2] = False
    where = Georeference((30.0, 0.0, 500.0, 0.0, -30.0, 900.0), "EPSG:32633")
    return Scene(pixels, 4095.0, np.arange(6) + 400.0, "field", "field.mat", valid=valid, georeference=where)


@pytest.fixture
def narrow(monkeypatch) -> None:
    monkeypatch.setattr(strips, "STRIP_BYTES", 0)  # strips of 8 rows or less


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("border", ["symmetric", "replicate"])
@pytest.mark.parametrize("shape", [(1, 6, 27, 14), (2, 6, 8, 5), (3, 6, 9, 3), (1, 6, 1, 40)])
def test_strips_are_the_whole_bit_for_bit(shape, border) -> None:
    model = network(6, 3, 16, 1, 2, border=border)
    image = torch.rand(shape)
    with torch.no_grad():
        expected = model(image)
    assert torch.equal(super_resolve(model, image), expected)
    wrong = model.upsample(model.features(image)[:, :, :8], image[:, :, :8]).detach()
    if shape[2] > 8:  # a strip without the rows around it is something else
        assert not torch.equal(wrong, expected[:, :, :24])


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_strips_have_the_rows_that_the_conv_reads(kernel: int) -> None:
    model = network(6, 2, 16, 1, 2)
    model.upsample = type(model.upsample)(16, 6, 2, kernel_size=kernel, groups=2)
    folded = model.eval()
    image, parts = torch.rand(1, 6, 30, 7, dtype=torch.float64), []
    folded.double()
    with torch.no_grad():
        strips.forward_in_strips(folded, image, lambda row, strip: parts.append((row, strip.clone())), lambda *_: None)
        torch.testing.assert_close(torch.cat([strip for _, strip in parts], 2), folded(image))
    assert [row for row, _ in parts] == [0, 16, 32, 48]


@pytest.mark.usefixtures("narrow")
def test_a_result_in_a_file_is_the_one_in_memory(model: LKCANet, scene: Scene, tmp_path: Path) -> None:
    expected = super_resolve(model, scene)
    mapped = super_resolve(model, scene, out=tmp_path / "sr.npy")
    write_scene(tmp_path / "expected.npy", expected)
    assert (tmp_path / "sr.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()
    assert isinstance(mapped.pixels, np.memmap)
    again = read_scene(tmp_path / "sr.npy")
    for result in (mapped, again):
        assert np.array_equal(result.pixels, expected.pixels)
        assert (result.peak, result.name) == (4095.0, "field")
    assert mapped.valid is not None
    assert mapped.valid.sum() == mapped.valid.size - 4 * 6
    assert mapped.georeference == Georeference((15.0, 0.0, 500.0, 0.0, -15.0, 900.0), "EPSG:32633")
    mapped.pixels[:] = 0  # copied on write
    assert np.array_equal(read_scene(tmp_path / "sr.npy").pixels, expected.pixels)
    assert {path.name for path in tmp_path.iterdir()} == {"sr.npy", "expected.npy"}


def test_input_that_is_mapped_or_can_not_be_written_to(model: LKCANet, scene: Scene, tmp_path: Path) -> None:
    expected = super_resolve(model, scene).pixels
    write_scene(tmp_path / "lr.npy", scene)
    for mode in ("c", "r"):
        mapped = replace(scene, pixels=np.load(tmp_path / "lr.npy", mmap_mode=mode))
        assert np.array_equal(super_resolve(model, mapped).pixels, expected)
        assert np.array_equal(super_resolve(model, mapped.pixels), expected)
    flipped = scene.pixels[:, ::-1]  # of a stride that torch can't wrap
    assert np.array_equal(super_resolve(model, flipped), super_resolve(model, flipped.copy()))


def test_what_fails_leaves_no_file(model: LKCANet, scene: Scene, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "sr.npy"
    out.write_bytes(b"before")

    def stop(share: float, what: str) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        super_resolve(model, scene, out=out, progress=stop)
    scene.pixels[3, 20, 5] = np.nan
    with pytest.raises(ValueError, match="the image holds NaN or infinite pixels"):
        super_resolve(model, scene, out=out)
    scene.pixels[3, 20, 5] = 0

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_mapped.os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match=r"No space left on device.*sr\.npy"):
        super_resolve(model, scene, out=out)
    assert out.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["sr.npy"]


def test_out_that_does_not_fit(model: LKCANet, scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"out must be an \.npy file, got .*sr\.mat"):
        super_resolve(model, scene, out=tmp_path / "sr.mat")
    with pytest.raises(TypeError, match=r"out goes with a Scene.*ndarray"):
        super_resolve(model, scene.pixels, out=tmp_path / "sr.npy")
    with pytest.raises(TypeError, match=r"out goes with a Scene.*Tensor"):
        super_resolve(model, scene.tensor(), out=tmp_path / "sr.npy")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        super_resolve(model, scene, out=tmp_path / "no" / "sr.npy")
    with pytest.raises(ValueError, match="the network takes 6 bands, the image has 5"):
        super_resolve(model, replace(scene, pixels=scene.pixels[:5].copy(), wavelengths=None), out=tmp_path / "sr.npy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("narrow")
def test_progress_rises_to_one(model: LKCANet) -> None:
    told: list[tuple[float, str]] = []
    super_resolve(model, torch.rand(1, 6, 20, 9), progress=lambda share, what: told.append((share, what)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.2
    assert shares[-1] == 1
    words = [what for _, what in told]
    assert words == [
        "block 1 of 2",
        "block 2 of 2",
        "rows 0 to 7 of 20",
        "rows 7 to 14 of 20",
        "rows 14 to 20 of 20",
        "done",
    ]


def test_a_folded_network_is_used_as_it_is(model: LKCANet, monkeypatch) -> None:
    image = torch.rand(1, 6, 8, 8)
    folded, expected = model.fold(), super_resolve(model, image)
    training = network(6, 2, 16, 2, 2, drop_path=0.9).fold().train()
    assert torch.equal(super_resolve(training, image), expected)
    assert training.training
    monkeypatch.setattr(LKCANet, "fold", None)
    assert torch.equal(super_resolve(folded, image), expected)


def test_finite_pixels_that_overflow_are_no_nan() -> None:
    result = super_resolve(network(6, 2, 16, 0, 2), torch.full((1, 6, 8, 8), 3e38))
    assert not result.isfinite().all()


def test_reach_is_how_far_a_pixel_acts() -> None:
    assert reach(lkca_lr(8)) == 498
    model = network(2, 1, 8, 2, 1, kernel_sizes=(3, 5), dilations=(2, 1))
    with torch.no_grad():
        for block in model.blocks:  # channel attention reaches everywhere
            block.attention.attention.expand.weight.zero_()
    for cubes in (model, network(2, 1, 8, 0, 1)):
        image = torch.rand(1, 2, 41, 41, dtype=torch.float64)
        folded = cubes.fold().double()
        changed = image.clone()
        changed[:, :, 20, 20] += 1
        with torch.no_grad():
            rows = (folded(changed) - folded(image)).abs().amax((0, 1, 3)).nonzero().flatten()
        assert (int(rows.min()), int(rows.max())) == (20 - reach(cubes), 20 + reach(cubes))


MEASURE = """
import json, re, sys
import numpy as np, torch
from lkcanet.data.scenes import Scene
from lkcanet.inference import memory, super_resolve
from lkcanet.models import LKCANet

torch.set_num_threads(1)

def status(key):
    return int(re.search(key + r":\\s*(\\d+)", open("/proc/self/status").read())[1]) << 10

bands, scale, channels, blocks, rows, columns, tile, out, ensemble = json.loads(sys.argv[1])
model = LKCANet(bands, scale, channels, blocks, reduction=8)
pixels = np.random.default_rng(0).random((bands, rows, columns), np.float32)
super_resolve(model, Scene(pixels[:, :9, :9].copy(), 1.0))  # what torch loads and keeps once
base = status("VmRSS") - pixels.nbytes
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
result = super_resolve(model, Scene(pixels, 1.0), tile=tile and tuple(tile), out=out, ensemble=ensemble)
peak = status("VmHWM") - base
assert result.pixels.shape == (bands, scale * rows, scale * columns)
said = memory(model, rows, columns, tile=tile and tuple(tile), mapped=out is not None, ensemble=ensemble)
print(json.dumps({"measured": peak, **said.as_dict()}))
"""


@pytest.mark.wide(most=1)
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("case", "stage"),
    [
        ([16, 2, 32, 2, 512, 512, None, False], "blocks"),
        ([200, 1, 8, 1, 640, 640, None, True], "head"),
        ([48, 4, 16, 1, 200, 320, None, False], "output"),
        ([16, 2, 64, 1, 320, 512, None, True], "blocks"),
        ([64, 4, 16, 1, 300, 448, None, True], "strip"),
        ([48, 4, 16, 1, 256, 384, [128, 128], False], "output"),
    ],
)
def test_memory_is_as_it_was_said(case: list, stage: str, tmp_path: Path) -> None:
    from lkops import backends

    if backends.choose("lk_block", None, [torch.rand(1)]) != "cpu":
        pytest.skip("a rough figure where no compiled kernels are built")
    facts = measured(case, tmp_path)
    assert abs(facts["peak"] / facts["measured"] - 1) < 0.2, facts
    assert facts["measured"] > 150e6  # large beside what an allocator keeps


@pytest.mark.wide(most=1)
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
@pytest.mark.parametrize("case", [[64, 4, 64, 3, 200, 300, None, False], [64, 4, 64, 3, 400, 300, None, True]])
def test_memory_of_strips_of_the_whole_network(case: list, tmp_path: Path) -> None:
    from lkops import backends

    if backends.choose("upsample_add", None, [torch.rand(1)]) != "cpu":
        pytest.skip("a rough figure where no compiled kernels are built")
    network = ("lkcanet.models.baselines import VDSRLR", "VDSRLR(bands, scale, channels, blocks)")
    # its maps take less than 32 MiB: of those that are freed glibc keeps some, which `memory` does not count
    facts = measured(case, tmp_path, *network, gives_back=True)
    assert abs(facts["peak"] / facts["measured"] - 1) < 0.2, facts
    assert facts["measured"] > 150e6


@pytest.mark.wide(most=1)
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
@pytest.mark.parametrize("case", [[16, 2, 64, 2, 320, 512, None, True], [48, 4, 32, 2, 256, 384, [128, 128], False]])
def test_memory_of_a_network_with_a_long_skip(case: list, tmp_path: Path) -> None:
    from lkops import backends

    if backends.choose("lk_block", None, [torch.rand(1)]) != "cpu":
        pytest.skip("a rough figure where no compiled kernels are built")
    facts = measured(
        case, tmp_path, "lkcanet.models import LKCARes", "LKCARes(bands, scale, channels, blocks, reduction=8)"
    )
    assert abs(facts["peak"] / facts["measured"] - 1) < 0.2, facts
    assert facts["measured"] > 150e6


@pytest.mark.exhaustive
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
@pytest.mark.parametrize("case", [[48, 4, 32, 1, 200, 320, None, False], [64, 4, 16, 1, 448, 300, None, True]])
def test_memory_of_the_ensemble(case: list, tmp_path: Path) -> None:
    from lkops import backends

    if backends.choose("lk_block", None, [torch.rand(1)]) != "cpu":
        pytest.skip("a rough figure where no compiled kernels are built")
    facts = measured(case, tmp_path, ensemble=True, gives_back=True)
    # blocks of less than 160 MiB are added for what glibc may keep of their small maps: by chance from none to all
    assert facts["measured"] < facts["peak"], facts
    assert abs((facts["peak"] - facts["blocks"]) / facts["measured"] - 1) < 0.2, facts
    assert facts["measured"] > 150e6


def measured(case: list, folder: Path, *other: str, ensemble: bool = False, gives_back: bool = False) -> dict:
    """Bytes that a process of its own takes for it, and those that were said; of LKCA-Net, or by another class. With
    `gives_back` its allocator hands all that is freed to the system at once."""
    case = [*case[:-1], str(folder / "sr.npy") if case[-1] else None, ensemble]
    script = MEASURE
    for old, new in zip(
        ("lkcanet.models import LKCANet", "LKCANet(bands, scale, channels, blocks, reduction=8)"),
        other,
        strict=bool(other),
    ):
        assert old in script
        script = script.replace(old, new)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {"MALLOC_MMAP_THRESHOLD_": "65536"} if gives_back else {}
    output = subprocess.run(
        [sys.executable, "-c", script, json.dumps(case)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=ROOT,
    )
    return json.loads(output.stdout)


def test_memory_of_the_large_scene_of_the_issue() -> None:
    said = memory(lkca_lr(128), 512, 512)
    feature_map = 4 * 128 * 512 * 512
    assert said.input == feature_map
    assert said.output == 16 * feature_map
    assert 0 < said.blocks - 5 * feature_map < 0.05 * feature_map * torch.get_num_threads()
    assert said.peak == said.weights + said.input + said.output + said.upsampling
    assert memory(lkca_lr(128), 512, 512, mapped=True).peak < 0.35 * said.peak
    tiled = memory(lkca_lr(128), 512, 512, tile=(128, 128), mapped=True)
    assert tiled.peak < 0.5 * memory(lkca_lr(128), 512, 512, mapped=True).peak
    assert "2.15 GB" in str(said)
    # the head alone of such sizes took 432 planes (oneDNN)
    assert memory(LKCANet(400, 1, 32, 1), 800, 800).blocks == 4 * 432 * 800 * 800
    half = memory(lkca_lr(128).bfloat16(), 512, 512)
    assert half.output == said.output / 2
    assert memory(lkca_lr(128), 64, 64, batch=4).output == 4 * memory(lkca_lr(128), 64, 64).output
    with pytest.raises(ValueError, match="height must be"):
        memory(lkca_lr(8), 0, 5)
    with pytest.raises(ValueError, match="tile must be"):
        memory(lkca_lr(8), 5, 5, tile=(0, 5))


def test_the_largest_tile_that_fits() -> None:
    model = lkca_lr(16)
    enough = memory(model, 500, 300, tile=(160, 160), mapped=True).peak
    assert footprint.fitting_tile(model, 500, 300, enough, mapped=True) == 160
    assert footprint.fitting_tile(model, 500, 300, enough - 1, mapped=True) == 128
    assert footprint.fitting_tile(model, 500, 300, 1000, mapped=True) is None
    there = footprint.available()
    if there is not None:
        assert there[0] > 1 << 20
