"""Where a kernel changes its mind: thresholds, numbers of samples, scales and eps that the contract's cases do not
meet; and the ways of calling that must not reach a kernel straight."""

import pytest
import torch
import torch.autograd.forward_ad as forward_ad

from lkops import backends, testing
from lkops._core.operator import Operator
from lkops.testing import Draw, arguments, as_tuple, assert_as_good_as_eager, cast, check, examples, invoke, run
from tests.lkops.ops.harness import case_of, cases, runs

RUNS = runs(every_dtype=False)
pytestmark = pytest.mark.usefixtures("two_threads")


def of(*operators: str) -> list[tuple[str, str, str, torch.dtype]]:
    return [each for each in RUNS if each[0] in operators]


# between sums in one part and in several: of samples, for gradients of what all of them share
@pytest.mark.wide
@pytest.mark.parametrize("samples", [7, 17, 33])
@pytest.mark.parametrize(("operator", "backend", "device", "dtype"), RUNS)
def test_gradients_count_every_sample(operator, backend, device, dtype, samples) -> None:
    if backend == "triton" and device == "cpu" and samples != 17:
        pytest.skip("the interpreter is slow: one number of samples is enough")
    first = cases(operator)[0]
    case = case_of("samples", (samples, 4, 3, 4), first.options)
    check(operator, backend, device, dtype, case)
    if dtype is not torch.float32:
        return
    # the tolerance of one value says little where sums are long: a sample that is left out is missing from the norm
    tensors, options = arguments(operator, case)
    tensors = cast(tensors, dtype, device)
    whole = run(operator, tensors, options, backend)
    exact = run(operator, cast(tensors, torch.float64, "cpu"), options, "reference")
    for what, value in whole.items():
        assert (value.cpu().double() - exact[what]).norm() <= 1e-2 * exact[what].norm() + 1e-12, what


@pytest.mark.wide
@pytest.mark.parametrize("scale", [6, 7, 9, 12])
@pytest.mark.parametrize(("operator", "backend", "device", "dtype"), of("bicubic_upsample", "upsample_add"))
def test_scales(operator, backend, device, dtype, scale) -> None:
    drawing = {} if operator == "bicubic_upsample" else {"bands": 2}
    for more in ({}, {"cubic_a": -0.75, "border": "replicate"}):
        case = case_of("scale", (1, 4, 5, 3), {"scale": scale, **drawing, **more})
        check(operator, backend, device, dtype, case)


@pytest.mark.wide
@pytest.mark.parametrize("eps", [1e-8, 1e-3, 2.0])
@pytest.mark.parametrize(("operator", "backend", "device", "dtype"), of("norm_conv1x1_gelu", "lk_block"))
def test_eps(operator, backend, device, dtype, eps) -> None:
    check(operator, backend, device, dtype, case_of("eps", (2, 8, 3, 4), {"eps": eps}))


@pytest.mark.parametrize("norm", [1.5e-6, 1e-5, 9e-5, 1e-3])
@pytest.mark.parametrize(("operator", "backend", "device", "dtype"), of("spectral_losses"))
def test_small_spectra_have_a_direction(operator, backend, device, dtype, norm) -> None:
    """Down to a norm of 1e-6: their angle is that of the same spectra at any length."""
    draw = Draw()
    p, t = draw(1, 5, 3, 4), draw(1, 5, 3, 4)
    p, t = (norm * x / x.norm(dim=1, keepdim=True) for x in (p, t))
    tensors = cast({"prediction": p, "target": t}, dtype, device)
    found = as_tuple(invoke(operator, tensors, {}, backend))
    exact = as_tuple(invoke(operator, cast(tensors, torch.float64, "cpu"), {}, "reference"))
    for i in (1, 2):
        assert abs(float(found[i]) - float(exact[i])) <= 1e-5
        assert abs(float(exact[i]) - (0.5 if i == 1 else 1.0)) > 1e-2, "not what a spectrum without direction counts"


@pytest.mark.parametrize(("operator", "backend", "device", "dtype"), of("spectral_losses"))
def test_tiny_spectra_have_none(operator, backend, device, dtype) -> None:
    draw = Draw()
    p, t = draw(1, 5, 3, 4), draw(1, 5, 3, 4)
    tensors = cast({"prediction": 9e-7 * p / p.norm(dim=1, keepdim=True), "target": t}, dtype, device)
    found = as_tuple(invoke(operator, tensors, {}, backend))
    assert float(found[1]) == pytest.approx(0.5, abs=1e-6)
    assert float(found[2]) == pytest.approx(1.0, abs=1e-6)


CPU = [each for each in RUNS if each[1] in ("cpu", "reference") and each[2] == "cpu" and each[3] is torch.float32]
every_way = pytest.mark.parametrize(("operator", "backend", "device", "dtype"), CPU)


def plain(operator, dtype, device, name="plain") -> tuple[dict, dict]:
    tensors, options = arguments(operator, examples(operator)[name])
    return cast(tensors, dtype, device), options


@every_way
def test_autocast_without_gradients(operator, backend, device, dtype) -> None:
    tensors, options = plain(operator, dtype, device)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        (output, *_) = invoke(operator, tensors, options, backend)
    keeps = operator in ("spectral_losses", "bicubic_upsample", "upsample_add")
    assert output.dtype is (torch.float32 if keeps else torch.bfloat16)


@every_way
def test_forward_derivatives_are_right_or_refused(operator, backend, device, dtype) -> None:
    tensors, options = plain(operator, dtype, device)
    first = next(iter(tensors))
    tangent = torch.ones_like(tensors[first])

    def through(kind: str, given: dict) -> torch.Tensor | None:
        with forward_ad.dual_level():
            dual = {**given, first: forward_ad.make_dual(given[first], tangent.to(given[first].dtype))}
            return forward_ad.unpack_dual(invoke(operator, dual, options, kind)[0]).tangent

    try:
        found = through(backend, tensors)
    except (RuntimeError, NotImplementedError):
        return
    right = through("reference", cast(tensors, torch.float64, "cpu"))
    assert found is not None, "the derivative was dropped"
    assert (found.double() - right).abs().max() <= 1e-3 * right.abs().max()


@every_way
def test_vmap_is_right_or_refused(operator, backend, device, dtype) -> None:
    tensors, options = plain(operator, dtype, device)
    first = next(iter(tensors))
    many = torch.stack([tensors[first], 2 * tensors[first]])

    def one(x: torch.Tensor) -> torch.Tensor:
        return invoke(operator, {**tensors, first: x}, options, backend)[0]

    with torch.no_grad():
        try:
            found = torch.func.vmap(one)(many)
        except (RuntimeError, NotImplementedError, ValueError):
            return
        right = torch.stack([one(x) for x in many])
    assert_as_good_as_eager(found, right, right.double())


@every_way
def test_functional_gradients_are_right_or_refused(operator, backend, device, dtype) -> None:
    tensors, options = plain(operator, dtype, device)
    first = next(iter(tensors))

    def loss(x: torch.Tensor) -> torch.Tensor:
        return invoke(operator, {**tensors, first: x}, options, backend)[0].square().sum()

    x = tensors[first].clone().requires_grad_()
    (right,) = torch.autograd.grad(loss(x), x)
    try:
        found = torch.func.grad(loss)(tensors[first])
    except (RuntimeError, NotImplementedError):
        return
    assert right.abs().max() > 0
    assert (found - right).abs().max() <= 1e-4 * right.abs().max()


@pytest.mark.parametrize("operator", backends.operators())
@pytest.mark.parametrize("way", ["plain", "gradient", "autocast"])
def test_the_short_way_is_taken(operator, way, monkeypatch) -> None:
    """Else the tests above would say nothing about it, and small calls would take longer than their kernels."""

    def fail(*arguments: object) -> str:
        raise AssertionError("the backend was chosen, after all checks")

    monkeypatch.setattr(Operator, "choose", fail)
    tensors, options = plain(operator, torch.float32, "cpu")
    floating = [t.requires_grad_(way == "gradient") for t in tensors.values() if t is not None]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=way == "autocast"):
        (output, *_) = invoke(operator, tensors, options, "cpu")
    if way == "gradient":
        output.sum().backward()
        assert all(t.grad is not None for t in floating)


@pytest.mark.parametrize(
    "operator", [name for name in backends.operators() if testing.operator(name).kernels["cpu"].casts]
)
def test_parameters_that_autocast_leaves_to_the_kernel(operator) -> None:
    """The bits of parameters cast before; one that changes in place is seen; and without autocast they are refused."""
    for name in ("plain", "prime", "one_pixel"):
        tensors, options = plain(operator, torch.float32, "cpu", name)
        cast_before, _ = plain(operator, torch.bfloat16, "cpu", name)
        given = [key for key, tensor in tensors.items() if tensor is not None]
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            before = invoke(operator, tensors, options, "cpu")[0]
            assert before.isfinite().all()
            assert torch.equal(before, invoke(operator, cast_before, options, "cpu")[0])
            for key in given[1:]:
                tensors[key].data.mul_(1.5)
                after = invoke(operator, tensors, options, "cpu")[0]
                right = invoke(operator, {k: t if t is None else t.bfloat16() for k, t in tensors.items()}, options)[0]
                assert torch.equal(after, right), key
            assert not torch.equal(after, before)
        with pytest.raises(TypeError, match=f"{given[1]} must be torch.bfloat16"):
            invoke(operator, {**tensors, given[0]: tensors[given[0]].bfloat16()}, options, "cpu")
