"""CSAKD's losses against straight float64 formulas, their gradients, and what is refused."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor

from lkcanet.objectives.csakd_losses import (
    CSAKDWeights,
    beba_loss,
    feature_loss,
    fusion_loss,
    layout_cosine_loss,
    student_loss,
)


def cubes(count: int = 2, scale: float = 1.0) -> list[Tensor]:
    """Errors on both sides of 1, on the data's range [-1, 1] and beyond."""
    generator = torch.Generator().manual_seed(3)
    return [scale * torch.randn(2, 5, 4, 3, generator=generator, dtype=torch.float64) for _ in range(count)]


def straight_beba(p: Tensor, t: Tensor, form: str, alpha: float, beta: float, eps: float, offset: bool) -> float:
    x, y = p.numpy(), t.numpy()
    total = 0.0
    for n in range(x.shape[0]):
        for b in range(x.shape[1]):
            errors = []
            for d in np.abs(x[n, b] - y[n, b]).ravel():
                if form == "code":
                    error = alpha * d**2 / beta + max(d - beta, 0)
                else:
                    error = alpha * (d * d) / beta + max(d * d - beta, 0)
                errors.append(error - alpha * beta * offset)
            total += np.mean(errors) / np.mean(y[n, b] ** 2 + eps)
    return total / (x.shape[0] * x.shape[1])


def cosines(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    return (rows * others).sum(1) / (np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1))


def straight_sam(p: Tensor, t: Tensor, legacy: bool) -> float:
    bands = p.shape[1]
    flat = [(x if legacy else x.permute(0, 2, 3, 1)).reshape(-1, bands).numpy() for x in (p, t)]
    return float(1 - cosines(*flat).mean())


def straight_feature(s: Tensor, t: Tensor) -> float:
    a, b = (1 / (1 + np.exp(-x.numpy())) for x in (s, t))
    return float(-(b * np.log(a) + (1 - b) * np.log(1 - a)).mean())


def straight_reconstruction(p: Tensor, t: Tensor, kind: str) -> float:
    d = np.abs((p - t).numpy())
    return float((d if kind == "l1" else np.where(d < 1, 0.5 * d**2, d - 0.5)).mean())


@pytest.mark.parametrize("form", ["code", "paper"])
@pytest.mark.parametrize("offset", [True, False])
@pytest.mark.parametrize("numbers", [(0.5, 1.0, 0.1), (0.3, 0.6, 1e-3)])
def test_beba_is_its_formula(form: str, offset: bool, numbers: tuple[float, float, float]) -> None:
    p, t = cubes()
    alpha, beta, eps = numbers
    options = {"form": form, "alpha": alpha, "beta": beta, "eps": eps, "offset": offset}
    value = beba_loss(p, t, **options)  # type: ignore[arg-type]
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(straight_beba(p, t, form, alpha, beta, eps, offset), rel=1e-12)
    p.requires_grad_()
    t.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: beba_loss(a, b, **options), (p, t))  # type: ignore[arg-type]
    assert torch.autograd.grad(beba_loss(p, t, **options), p)[0].abs().min() > 0  # type: ignore[arg-type]


def test_the_forms_of_beba_differ_above_errors_of_one_only() -> None:
    p, t = cubes()
    assert abs(beba_loss(p, t, form="code") - beba_loss(p, t, form="paper")) > 0.01
    small = [0.1 * x for x in (p, t)]
    assert beba_loss(*small, form="code").item() == pytest.approx(beba_loss(*small, form="paper").item(), rel=1e-12)


def test_bebas_offset_is_negative_at_identity_and_has_no_gradient() -> None:
    p, t = cubes()
    assert beba_loss(t, t) == 0
    energy = t.square().mean((2, 3)) + 0.1
    assert beba_loss(t, t, offset=True).item() == pytest.approx(-(0.5 / energy).mean().item(), rel=1e-12)
    p.requires_grad_()
    grads = [torch.autograd.grad(beba_loss(p, t, offset=offset), p)[0] for offset in (True, False)]
    torch.testing.assert_close(*grads, rtol=1e-13, atol=0)


def test_the_offset_on_uniform_data_is_the_known_one() -> None:
    t = torch.rand(1, 1, 1000, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert beba_loss(t, t, offset=True).item() == pytest.approx(-0.5 / (1 / 3 + 0.1), rel=2e-3)  # -1.154


def test_the_layouts_loss_is_not_the_spectral_one() -> None:
    """As the guide measured: scaled pixels keep their spectra, scaled bands do not; the code sees it the other way."""
    generator = torch.Generator().manual_seed(4)
    t = torch.rand(2, 16, 32, 32, generator=generator, dtype=torch.float64)
    by_pixel = t * (0.2 + torch.rand(2, 1, 32, 32, generator=generator, dtype=torch.float64))
    by_band = t * (0.2 + torch.rand(2, 16, 1, 1, generator=generator, dtype=torch.float64))
    plain, legacy = CSAKDWeights(), CSAKDWeights(legacy_layout=True)
    assert fusion_loss(by_pixel, t, plain).sam.abs() < 1e-12
    assert fusion_loss(by_pixel, t, legacy).sam > 0.02
    assert fusion_loss(by_band, t, plain).sam > 0.02
    assert fusion_loss(by_band, t, legacy).sam.abs() < 1e-12


def test_layout_cosine_is_its_formula() -> None:
    p, t = cubes()
    assert layout_cosine_loss(p, t).item() == pytest.approx(straight_sam(p, t, True), rel=1e-12)
    p.requires_grad_()
    assert torch.autograd.gradcheck(lambda a: layout_cosine_loss(a, t), p)
    assert torch.autograd.grad(layout_cosine_loss(p, t), p)[0].abs().min() > 0


def test_feature_loss_is_its_formula_and_pulls_to_the_teacher() -> None:
    s, t = cubes()
    assert feature_loss(s, t).item() == pytest.approx(straight_feature(s, t), rel=1e-12)
    s.requires_grad_()
    t.requires_grad_()
    grad_s, grad_t = torch.autograd.grad(feature_loss(s, t), (s, t), allow_unused=True)
    assert grad_t is None
    torch.testing.assert_close(grad_s, (s.sigmoid() - t.sigmoid()) / s.numel(), rtol=1e-10, atol=1e-14)
    assert torch.autograd.gradcheck(lambda a: feature_loss(a, t.detach()), s)
    entropy = feature_loss(t, t)  # its least value
    assert entropy > 0
    assert feature_loss(s, t) > entropy


@pytest.mark.parametrize("reconstruction", ["l1", "smooth_l1"])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("beba", ["code", "paper"])
def test_totals_are_their_formulas(reconstruction: str, legacy: bool, beba: str) -> None:
    weights = CSAKDWeights(
        reconstruction=reconstruction, beba=beba, beba_offset=legacy, beba_eps=0.2, legacy_layout=legacy,
        beba_weight=0.3, sam_weight=0.7, feature_weight=0.9, image_weight=1.1,
    )  # fmt: skip
    image, features, target, their_image, their_features = cubes(5, 1.5)
    expected = {
        "reconstruction": straight_reconstruction(image, target, reconstruction),
        "beba": straight_beba(image, target, beba, 0.5, 1.0, 0.2, legacy),
        "sam": straight_sam(image, target, legacy),
        "features": straight_feature(features, their_features),
        "image": straight_reconstruction(image, their_image, reconstruction),
    }
    lambdas = {"reconstruction": 1.0, "beba": 0.3, "sam": 0.7, "features": 0.9, "image": 1.1}
    leaves = [x.requires_grad_() for x in (image, features, their_image, their_features)]
    student = student_loss(image, features, target, their_image, their_features, weights)
    teacher = fusion_loss(image, target, weights)
    for loss in (student, teacher):
        values = loss._asdict()
        names = [name for name in values if name != "total"]
        for name in names:
            assert values[name].item() == pytest.approx(expected[name], rel=1e-10), name
        assert loss.total.item() == pytest.approx(sum(lambdas[name] * expected[name] for name in names), rel=1e-10)
    grads = torch.autograd.grad(student.total, leaves, allow_unused=True)
    assert [grad is not None for grad in grads] == [True, True, False, False]
    for grad in grads[:2]:
        assert grad.abs().min() > 0
    assert torch.autograd.gradcheck(
        lambda y, z: student_loss(y, z, target, their_image, their_features, weights).total, tuple(leaves[:2])
    )


def test_the_defaults_are_the_papers() -> None:
    weights = CSAKDWeights()
    assert [getattr(weights, field.name) for field in fields(weights) if field.name.endswith("_weight")] == [
        *[0.1] * 4,
        None,
        None,
    ]
    p, t = cubes()
    expected = straight_reconstruction(p, t, "l1") + 0.1 * (
        straight_beba(p, t, "code", 0.5, 1, 0.1, False) + straight_sam(p, t, False)
    )
    assert fusion_loss(p, t).total.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrower_dtypes_compute_in_float32(dtype: torch.dtype) -> None:
    image, features, target, their_image, their_features = (x.to(dtype) for x in cubes(5))
    narrow = student_loss(image, features, target, their_image, their_features)
    doubled = [x.double() for x in (image, features, target, their_image, their_features)]
    wide = student_loss(*doubled)  # type: ignore[arg-type]
    for a, b in zip(narrow, wide, strict=True):
        assert a.dtype == torch.float32
        assert a.item() == pytest.approx(b.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"reconstruction": "l2"}, "reconstruction must be one of l1, smooth_l1; got 'l2'"),
        ({"beba": "huber"}, "beba must be one of code, paper; got 'huber'"),
        ({"beba_offset": 1}, "beba_offset must be True or False, got 1"),
        ({"legacy_layout": "yes"}, "legacy_layout must be True or False"),
        ({"beba_eps": 0}, "beba_eps must be a finite number above 0, got 0"),
        ({"sam_weight": -1}, "sam_weight must be a finite number, 0 or more, got -1"),
        ({"feature_weight": math.nan}, "feature_weight must be"),
        ({"image_weight": math.inf}, "image_weight must be"),
        ({"beba_weight": True}, "beba_weight must be"),
    ],
)
def test_weights_out_of_range(option: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CSAKDWeights(**option)  # type: ignore[arg-type]


def test_arguments_that_are_refused() -> None:
    p, t = cubes()
    for option, message in (
        ({"form": "x"}, "form must be one of code, paper; got 'x'"),
        ({"alpha": 0}, "alpha must be a finite number above 0"),
        ({"beta": math.nan}, "beta must be"),
        ({"eps": -1}, "eps must be"),
    ):
        with pytest.raises(ValueError, match=message):
            beba_loss(p, t, **option)
    for loss in (beba_loss, layout_cosine_loss, fusion_loss):
        with pytest.raises(ValueError, match=r"target must have the shape of prediction, \(2, 5, 4, 3\), got"):
            loss(p, t[:, :1])
    with pytest.raises(ValueError, match="teacher must have the shape of student"):
        feature_loss(p, t[:1])
    with pytest.raises(ValueError, match=r"prediction must be .* not empty"):
        beba_loss(p[:0], t[:0])
