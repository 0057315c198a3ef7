"""NaN in is NaN out: one NaN in any tensor of any operator reaches what it reaches in the float32 reference, and no
more. Comparisons that select (clamps, maxima, relu, thresholds) must not lose it."""

import math

import pytest
import torch

import lkops
from lkops.testing import Arguments, Example, arguments, cast, run
from tests.lkops.ops.harness import DTYPES, OPERATORS, case_of, cases, runs

SHAPE = (2, 4, 3, 5)
# every tap of these kernels sees a pixel: in the padding, torch's own convs multiply NaN with 0 or not, as they like
SMALL = {"kernels": (3, 3), "dilations": (1, 1)}


def small_case(operator: str) -> Example:
    """The operator's first case on a small image, with a floor if it takes one."""
    own = {"spectral_losses": {"floor": 0.5}, "lk_block": SMALL, "large_kernel_channel_attention": SMALL}
    return case_of("small", SHAPE, {**cases(operator)[0].options, **own.get(operator, {})})


def places(name: str, tensor: torch.Tensor) -> list[tuple[int, ...]]:
    """One in the middle, a kernel's centre, and the first element; of a weight the first kernel's centre."""
    middle = tuple(size // 2 for size in tensor.shape)
    first = (0, 0, *middle[2:]) if name.endswith("weight") else (0,) * tensor.dim()
    return [middle, first[: tensor.dim()]]


def with_nan(tensors: Arguments, name: str, place: tuple[int, ...], value: float = math.nan) -> Arguments:
    changed = {key: None if t is None else t.clone() for key, t in tensors.items()}
    given = changed[name]
    assert given is not None
    given[place] = value
    return changed


NAMES = {operator: [n for n, t in arguments(operator, small_case(operator))[0].items() if t is not None]
         for operator in OPERATORS}  # fmt: skip


def marks(operator: str, backend: str, device: str, name: str) -> list[pytest.MarkDecorator]:
    """Triton's interpreter takes seconds for a whole block: of its parameters, only the long run tries all."""
    long = backend == "triton" and device == "cpu" and len(NAMES[operator]) > 6 and name not in NAMES[operator][:2]
    return [pytest.mark.exhaustive] if long else []


KERNELS = [pytest.param(*r, name, marks=marks(*r[:3], name))
           for r in runs(compiled_only=True, every_dtype=False) for name in NAMES[r[0]]]  # fmt: skip


def name_of(value: object) -> str:
    return str(value).removeprefix("torch.")


@pytest.mark.parametrize(("operator", "backend", "device", "dtype", "name"), KERNELS, ids=name_of)
def test_nan_reaches_what_depends_on_it(operator, backend, device, dtype, name) -> None:
    tensors, options = arguments(operator, small_case(operator))
    interpreted = backend == "triton" and device == "cpu"  # seconds a call
    for place in places(name, tensors[name])[: 1 if interpreted else 2]:
        given = with_nan(tensors, name, place)
        expected = run(operator, cast(cast(given, dtype), torch.float32), options, "reference")
        assert any(value.isnan().any() for what, value in expected.items() if what.startswith("output"))
        for what, value in run(operator, cast(given, dtype, device), options, backend).items():
            assert torch.equal(value.isnan().cpu(), expected[what].isnan()), f"{what}, NaN in {name} at {place}"


@pytest.mark.parametrize(("operator", "name"), [(o, name) for o, names in NAMES.items() for name in names])
def test_the_reference_hides_no_nan(operator, name) -> None:
    """What a number changes, NaN in its place makes NaN: outputs and gradients."""
    tensors, options = arguments(operator, small_case(operator))
    before = run(operator, tensors, options, "reference")
    for place in places(name, tensors[name]):
        changed = run(operator, with_nan(tensors, name, place, 3.0), options, "reference")
        ours = run(operator, with_nan(tensors, name, place), options, "reference")
        for what, value in ours.items():
            # the gradient of |a - b| is a sign: NaN beside a voxel takes away what it changed
            if operator != "spectral_losses" or what.startswith("output"):
                hidden = (changed[what] != before[what]) & ~value.isnan()
                assert not hidden.any(), f"{what}, NaN in {name} at {place}"


LOSSES = [(backend, device, dtype) for operator, backend, device, dtype in runs() if operator == "spectral_losses"]


@pytest.mark.parametrize("floor", [0.0, 0.1, 100.0])
@pytest.mark.parametrize("other", [0.0, 1.0])
@pytest.mark.parametrize("name", ["prediction", "target"])
@pytest.mark.parametrize(("backend", "device", "dtype"), LOSSES, ids=name_of)
def test_losses_of_nan_are_nan(backend, device, dtype, name, other, floor) -> None:
    """Also beside a spectrum that is zero, below the floor, and where the whole cube is NaN."""
    for part in ((0, slice(None), 1, 1), (Ellipsis,)):
        cubes = {key: torch.full((1, 4, 2, 3), other, dtype=dtype, device=device) for key in ("prediction", "target")}
        cubes[name][part] = math.nan
        leaves = {key: cube.requires_grad_() for key, cube in cubes.items()}
        losses = lkops.spectral_losses(**leaves, floor=floor, backend=backend)
        assert losses.l1.isnan()
        assert losses.sam.isnan()
        assert losses.cosine.isnan()
        (losses.sam + losses.cosine).backward()
        for leaf in leaves.values():
            assert leaf.grad is not None
            assert leaf.grad[part].isnan().all()
            assert part == (Ellipsis,) or leaf.grad[..., 0, 0].isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cube_of_nan_has_no_loss(dtype) -> None:
    """A healthy number, beside a gradient that destroys the weights, would be the worst of all."""
    prediction = torch.full((1, 4, 3, 3), math.nan, dtype=dtype)
    for loss in (lkops.sam_loss, lkops.cosine_loss, lkops.gradient_loss):
        assert loss(prediction, torch.rand(1, 4, 3, 3).to(dtype)).isnan()
    assert all(loss.isnan() for loss in lkops.spectral_losses(prediction, prediction))
