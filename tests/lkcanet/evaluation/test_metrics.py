"""The six scores against scikit-image, plain float64 loops and cases known by hand."""

import json
import math
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lkcanet.evaluation import metrics
from lkcanet.evaluation.metrics import Metrics, cc, ergas, evaluate, mpsnr, mssim, rmse, sam

NAMES = ["mpsnr", "mssim", "sam", "cc", "rmse", "ergas"]


def pair(*shape: int, seed: int = 0, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """A noisy prediction (values beyond [0, 1] too) and its target."""
    rng = np.random.default_rng(seed)
    target = rng.random(shape)
    return target + noise * rng.standard_normal(shape), target


def reference(y: np.ndarray, x: np.ndarray, scale: int, data_range: float = 1.0) -> dict[str, float]:
    """The definitions as plain loops over bands and pixels, float64, with scikit-image where it has the score."""
    y, x = y.astype(np.float64), x.astype(np.float64)
    bands, height, width = x.shape
    angles = []
    for i in range(height):
        for j in range(width):
            dot = sum(float(x[b, i, j]) * float(y[b, i, j]) for b in range(bands))
            lengths = [math.sqrt(sum(float(z[b, i, j]) ** 2 for b in range(bands))) for z in (x, y)]
            if all(lengths):
                angles.append(math.degrees(math.acos(max(-1.0, min(1.0, dot / (lengths[0] * lengths[1]))))))
    pairs = list(zip(x, y, strict=True))
    errors = [sum((a - b) ** 2 for a, b in zip(p.ravel(), q.ravel(), strict=True)) / p.size for p, q in pairs]
    return {
        "mpsnr": float(np.mean([peak_signal_noise_ratio(p, q, data_range=data_range) for p, q in pairs])),
        "mssim": float(np.mean([structural_similarity(p, q, data_range=data_range) for p, q in pairs])),
        "sam": sum(angles) / len(angles),
        "cc": float(np.mean([np.corrcoef(p.ravel(), q.ravel())[0, 1] for p, q in pairs])),
        "rmse": math.sqrt(sum(errors) / bands),
        "ergas": 100 / scale * math.sqrt(sum(e / p.mean() ** 2 for e, p in zip(errors, x, strict=True)) / bands),
    }


def assert_equal(scores: Metrics, expected: dict[str, float]) -> None:
    for name, value in scores.items():  # a cosine one rounding below 1 is 1e-6 degrees, in the loops as well
        assert value == pytest.approx(expected[name], rel=1e-10, abs=3e-6 if name == "sam" else 0), name


@pytest.mark.parametrize("shape", [(5, 7, 7), (1, 9, 24), (31, 33, 20), (3, 64, 7)])
@pytest.mark.parametrize("tile", [1, 600, 1 << 18])
def test_equals_plain_loops_and_skimage(shape: tuple[int, ...], tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.TILE, "cpu", tile)  # one row of windows at a time, some rows, several bands
    y, x = pair(*shape)
    assert_equal(evaluate(y, x, 4), reference(y, x, 4))


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(7, 14), st.integers(7, 14)),
    seed=st.integers(0, 2**20),
    scale=st.sampled_from([2, 3, 4, 8]),
    data_range=st.sampled_from([0.5, 1.0, 255.0]),
)
def test_equals_plain_loops_for_any_shape(
    shape: tuple[int, int, int], seed: int, scale: int, data_range: float
) -> None:
    y, x = pair(*shape, seed=seed)
    assert_equal(evaluate(y, x, scale, data_range), reference(y, x, scale, data_range))


@settings(deadline=None, max_examples=30)
@given(x=hnp.arrays(np.float32, (3, 8, 8), elements=st.floats(0.0625, 1, width=32)), seed=st.integers(0, 99))
def test_scores_stay_in_their_ranges(x: np.ndarray, seed: int) -> None:
    y = x + np.random.default_rng(seed).standard_normal(x.shape).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # hypothesis likes constant bands
        scores = evaluate(y, x, 4)
    assert scores["mssim"] <= 1
    assert 0 <= scores["sam"] <= 180
    assert math.isnan(scores["cc"]) or -1 <= scores["cc"] <= 1
    assert scores["rmse"] > 0
    assert scores["ergas"] > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_identity(dtype: torch.dtype) -> None:
    x = torch.from_numpy(pair(2, 6, 20, 23)[1]).to(dtype)
    assert evaluate(x, x.clone(), 4) == {"mpsnr": math.inf, "mssim": 1, "sam": 0, "cc": 1, "rmse": 0, "ergas": 0}


def test_single_functions_are_the_parts_of_evaluate() -> None:
    y, x = pair(2, 4, 16, 17)
    scores = evaluate(y, x, 8, 2.0)
    single = [mpsnr(y, x, 2.0), mssim(y, x, 2.0), sam(y, x), cc(y, x), rmse(y, x), ergas(y, x, 8)]
    assert list(scores) == NAMES
    assert list(scores.values()) == single
    assert all(type(value) is float for value in single)
    assert json.loads(json.dumps(scores)) == scores


def test_batch_is_the_mean_over_images() -> None:
    y, x = pair(3, 4, 16, 17)
    y[1] += 0.3  # the images must differ, or a mean over all pixels would pass as well
    each: list[Any] = [evaluate(y[i], x[i], 4) for i in range(3)]
    assert evaluate(y, x, 4) == pytest.approx({k: np.mean([s[k] for s in each]) for k in NAMES}, rel=1e-12)
    assert rmse(y, x) != pytest.approx(math.sqrt(((y - x) ** 2).mean()), rel=1e-3)


def test_tensors_arrays_and_layouts_agree() -> None:
    y, x = [z.astype(np.float32) for z in pair(2, 5, 16, 17)]
    expected = evaluate(y, x, 4)
    interleaved = [torch.from_numpy(z).contiguous(memory_format=torch.channels_last) for z in (y, x)]
    variants: list[tuple[Any, Any]] = [
        (torch.from_numpy(y), torch.from_numpy(x)),
        (y, torch.from_numpy(x)),
        (y.astype(np.float64), x.astype(">f4")),
        (y[..., ::-1].copy()[..., ::-1], np.asfortranarray(x)),  # a negative stride
        (interleaved[0].requires_grad_(), interleaved[1]),
    ]
    for a, b in variants:
        assert evaluate(a, b, 4) == pytest.approx(expected, rel=1e-12)
    x.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evaluate(y, x, 4) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_are_left_alone(dtype: type[Any]) -> None:
    y, x = (np.asarray(z, dtype) for z in pair(3, 16, 17))
    before = y.copy(), x.copy()
    evaluate(y, x, 4)
    np.testing.assert_array_equal(y, before[0])
    np.testing.assert_array_equal(x, before[1])


def test_sam_by_hand() -> None:
    x = np.zeros((2, 7, 7))
    x[0] = 1
    y = np.stack([np.ones((7, 7)), np.ones((7, 7))])
    assert sam(y, x) == pytest.approx(45, abs=1e-12)
    assert sam(-x, x) == pytest.approx(180, abs=1e-12)
    assert sam(np.array([0.0, 2.0])[:, None, None] * np.ones((2, 7, 7)), x) == pytest.approx(90, abs=1e-12)
    y, x = pair(9, 7, 7)
    assert sam(np.random.default_rng(1).uniform(0.1, 9, (7, 7)) * x, x) == pytest.approx(0, abs=3e-6)
    assert sam(1e-150 * y, 1e-150 * x) == pytest.approx(sam(y, x), rel=1e-6)  # norms' product would underflow


def test_sam_skips_zero_spectra_on_either_side() -> None:
    y, x = pair(4, 8, 9)
    kept = sam(y[:, 1:, :], x[:, 1:, :])
    y[:, 0, :4] = 0
    x[:, 0, 4:] = 0
    assert sam(y, x) == pytest.approx(kept, rel=1e-12)
    with pytest.warns(RuntimeWarning, match="1 of 2 images") as caught:
        assert math.isnan(sam(np.stack([y, y]), np.stack([x, 0 * x])))
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_ergas_by_hand() -> None:
    x = np.full((2, 7, 7), 0.5)
    x[1] = 0.25
    y = x + 0.1
    expected = 25 * math.sqrt((0.01 / 0.25 + 0.01 / 0.0625) / 2)
    assert ergas(y, x, 4) == pytest.approx(expected, rel=1e-12)
    assert ergas(y, x, 8) == pytest.approx(expected / 2, rel=1e-12)
    assert ergas(x, y, 4) != pytest.approx(expected, rel=1e-2)  # means are the target's


def test_psnr_and_rmse_by_hand() -> None:
    x = np.full((2, 7, 7), 0.5)
    y = x + np.array([0.1, 0.001])[:, None, None]
    assert mpsnr(y, x) == pytest.approx((20 + 60) / 2)
    assert mpsnr(y, x, 10) == pytest.approx((40 + 80) / 2)
    assert rmse(y, x) == pytest.approx(math.sqrt((0.01 + 1e-6) / 2))
    assert rmse(x + 7, x) == pytest.approx(7)  # nothing is clipped
    y[1] = x[1]
    assert mpsnr(y, x) == math.inf


def test_csakds_scores_by_hand() -> None:
    """PSNR by each band's own peak, of its square where it is negative; RMSE in the units of the file."""
    x, y = pair(3, 9, 8)
    x[1] -= 2.0
    scores = evaluate(y, x, 2, unit=4000.0)
    bands = [10 * np.log10((b**2).max() / ((a - b) ** 2).mean()) for a, b in zip(y, x, strict=True)]
    assert scores["psnr_peak"] == pytest.approx(np.mean(bands), rel=1e-10)
    assert scores["rmse_counts"] == pytest.approx(4000 * np.sqrt(((y - x) ** 2).mean()), rel=1e-10)
    both = evaluate(3 * y, 3 * x, 2, unit=1.0)
    assert both["psnr_peak"] == pytest.approx(scores["psnr_peak"])  # free of units, as MPSNR is not
    assert "psnr_peak" not in evaluate(y, x, 2)
    x[0] = 0
    with pytest.warns(RuntimeWarning, match="1 of 3 bands of target are zero and were left out of the PSNR of each"):
        left = evaluate(y, x, 2, unit=1.0)["psnr_peak"]
    assert left == pytest.approx(np.mean(bands[1:]))
    valid = np.ones(x.shape[1:], bool)
    valid[:2] = False
    peaks = evaluate(y[1:], x[1:], 2, unit=1.0, valid=valid)["psnr_peak"]
    kept = [10 * np.log10((b**2).max() / ((a - b) ** 2).mean()) for a, b in zip(y[1:, 2:], x[1:, 2:], strict=True)]
    assert peaks == pytest.approx(np.mean(kept))
    with pytest.raises(ValueError, match=r"unit is 0, expected a positive finite number"):
        evaluate(y, x, 2, unit=0)


def test_cc_ignores_gain_and_offset() -> None:
    x = pair(3, 8, 8)[1]
    assert cc(5 * x + 1e4, x) == pytest.approx(1, abs=1e-9)
    assert cc(1 - x, x) == pytest.approx(-1, abs=1e-12)


def test_constant_and_zero_mean_bands_are_left_out() -> None:
    y, x = pair(6, 7, 13)
    expected = evaluate(y[3:], x[3:], 4)
    y[0], x[1], x[2] = 0.1, 0.1, 0  # the mean of 91 times 0.1 is not 0.1
    with pytest.warns(RuntimeWarning) as caught:
        scores = evaluate(y, x, 4)
    assert scores["cc"] == pytest.approx(expected["cc"], rel=1e-12)
    assert scores["ergas"] == pytest.approx(ergas(y[[0, 1, 3, 4, 5]], x[[0, 1, 3, 4, 5]], 4), rel=1e-12)
    messages = sorted(str(w.message) for w in caught)
    assert len(messages) == 2
    assert messages[0].startswith("1 of 6 bands of target have zero mean")
    assert messages[1].startswith("3 of 6 bands are constant")
    assert {w.filename for w in caught} == {__file__}


def test_zero_mean_up_to_rounding_is_left_out() -> None:
    y, x = pair(2, 8, 8)
    expected = ergas(y[:1], x[:1], 4)
    x[1] -= x[1].mean()
    with pytest.warns(RuntimeWarning, match="1 of 2 bands"):
        assert ergas(y, x, 4) == pytest.approx(expected, rel=1e-12)


def test_nothing_left_is_nan() -> None:
    x = np.zeros((2, 8, 8))
    with pytest.warns(RuntimeWarning, match="2 of 2 bands"):
        assert math.isnan(cc(x, x))
    with pytest.warns(RuntimeWarning, match="2 of 2 bands"):
        assert math.isnan(ergas(x, x, 4))


GOOD = np.full((2, 8, 8), 0.5)


def changed(value: float) -> np.ndarray:
    cube = GOOD.copy()
    cube[1, 3, 4] = value
    return cube


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: evaluate(GOOD[:1], GOOD, 4), ValueError, r"prediction has shape \(1, 1, 8, 8\)"),
        (lambda: evaluate(GOOD[0], GOOD, 4), ValueError, "prediction has shape"),
        (lambda: evaluate(GOOD, GOOD[None, None], 4), ValueError, "target has shape"),
        (lambda: evaluate(GOOD[:0], GOOD[:0], 4), ValueError, "non-empty"),
        (lambda: evaluate(GOOD.astype(np.uint16), GOOD, 4), TypeError, "prediction is uint16"),
        (lambda: evaluate(GOOD, torch.ones(2, 8, 8, dtype=torch.int32), 4), TypeError, "target is torch.int32"),
        (lambda: evaluate(GOOD, GOOD.astype(complex), 4), TypeError, "target is complex128"),
        (lambda: evaluate([[[1.0]]], GOOD, 4), TypeError, "prediction is a list"),  # type: ignore[arg-type]
        (lambda: evaluate(changed(math.nan), GOOD, 4), ValueError, "prediction holds NaN.*band 1 of image 0"),
        (lambda: evaluate(GOOD, changed(math.inf), 4), ValueError, "target holds NaN or inf"),
        (lambda: sam(GOOD, changed(-math.inf)), ValueError, "target holds NaN or inf"),
        (lambda: evaluate(GOOD, GOOD, 0), ValueError, "scale is 0"),
        (lambda: evaluate(GOOD, GOOD, 4.0), ValueError, "scale is 4.0"),  # type: ignore[arg-type]
        (lambda: evaluate(GOOD, GOOD, True), ValueError, "scale is True"),
        (lambda: evaluate(GOOD, GOOD, 4, 0), ValueError, "data_range is 0"),
        (lambda: evaluate(GOOD, GOOD, 4, math.nan), ValueError, "data_range is nan"),
        (lambda: mssim(GOOD[:, :6], GOOD[:, :6]), ValueError, "6 x 8 pixels, SSIM needs at least 7 x 7"),
    ],
)
def test_bad_input_is_named(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_small_images_have_all_other_scores() -> None:
    y, x = pair(3, 2, 3)
    assert all(math.isfinite(v) for v in (mpsnr(y, x), sam(y, x), cc(y, x), rmse(y, x), ergas(y, x, 2)))


class LiveBytes(TorchDispatchMode):
    """Highest sum of the memory of tensors made inside the context that are alive at the same time."""

    def __init__(self, *inputs: Tensor) -> None:
        super().__init__()
        self.peak = 0
        self.seen: list[weakref.ref[Tensor]] = []
        self.inputs = {z.untyped_storage().data_ptr() for z in inputs}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.seen += [
            weakref.ref(z) for z in (out if isinstance(out, tuple | list) else [out]) if isinstance(z, Tensor)
        ]
        live = {s.data_ptr(): s.nbytes() for r in self.seen if (z := r()) is not None for s in [z.untyped_storage()]}
        self.seen = [r for r in self.seen if r() is not None]
        self.peak = max(self.peak, sum(size for key, size in live.items() if key not in self.inputs))
        return out


def test_temporary_memory_does_not_grow_with_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.TILE, "cpu", 1 << 10)
    plane = 96 * 64 * 8
    peaks = []
    for bands in (4, 20):
        y, x = (torch.from_numpy(z).float() for z in pair(bands, 96, 64))
        with LiveBytes(y, x) as memory:
            evaluate(y, x, 4)
        peaks.append(memory.peak / plane)
    assert peaks[0] > 2  # the planes are seen at all
    assert peaks[1] < 12
    assert peaks[1] == pytest.approx(peaks[0], rel=0.02)
