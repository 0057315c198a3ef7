"""Options mean the same whether or not a gradient is needed, for small images and larger ones, on every backend: good
values give the bits of what they mean, bad ones the same error, which names the option."""

import inspect
from typing import Any

import pytest
import torch

import lkops
from lkops import testing
from lkops.testing import Example, arguments, cast, invoke
from tests.lkops.ops import test_arguments
from tests.lkops.ops.harness import OPERATORS, case_of, cases, runs
from tests.lkops.ops.options import KINDS, OF, options_of, outcome

OPTIONS = [
    (operator, option)
    for operator in OPERATORS
    for option in options_of(getattr(lkops, operator))
    if option != "bias"  # a tensor there
]
BACKENDS = {
    operator: [
        None,
        *(
            backend
            for name, backend, device, dtype in runs()
            if (name, device) == (operator, "cpu") and dtype is torch.float32
        ),
    ]
    for operator in OPERATORS
}


def test_every_option_of_every_operator_is_of_a_kind() -> None:
    for operator in OPERATORS:
        parameters = inspect.signature(getattr(lkops, operator)).parameters.values()
        others = {*testing.operator(operator).tensors, "backend"}
        names = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in others}
        assert names <= set(OF), operator


def outcomes(
    operator: str, changes: dict[str, Any], fitting: dict[str, Any] | None = None, sides: tuple[int, ...] = (4, 20)
) -> dict[str, tuple[str, Any]]:
    """What becomes of a call, for every way that it can take, with tensors that fit options `fitting`. Triton's
    interpreter runs small images alone."""
    found = {}
    for side in sides:
        example = Example("", (1, 4, side, side), {**cases(operator)[0].options, **(fitting or {})})
        tensors, options = arguments(operator, example)
        single = cast(tensors, torch.float32)
        for backend in BACKENDS[operator]:
            if backend == "triton" and side > 4:
                continue
            given = {**options, **changes}
            with torch.no_grad():
                found[f"{backend} {side}"] = outcome(lambda g=given, b=backend, t=single: invoke(operator, t, g, b))
            leaves = {name: t.clone().requires_grad_() for name, t in single.items()}
            found[f"{backend} {side} gradient"] = outcome(
                lambda g=given, b=backend, t=leaves: invoke(operator, t, g, b)
            )
    return found


@pytest.mark.parametrize(("operator", "option"), OPTIONS)
def test_bad_values(operator, option) -> None:
    for value in KINDS[OF[option]][1]:
        found = outcomes(operator, {option: value})
        assert len(set(found.values())) == 1, f"{value!r}: {found}"
        kind, message = next(iter(found.values()))
        assert kind in ("TypeError", "ValueError"), f"{value!r}: {message}"
        assert message.startswith(f"{option} must be "), f"{value!r}: {message}"
        assert "got " in message


@pytest.mark.wide
@pytest.mark.parametrize(("operator", "option"), OPTIONS)
def test_good_values(operator, option) -> None:
    for value, meaning in KINDS[OF[option]][0]:
        fitting = {option: meaning}
        found, expected = outcomes(operator, {option: value}, fitting), outcomes(operator, fitting, fitting)
        for way, (kind, result) in found.items():
            assert kind == "returns", f"{value!r}, {way}: {result}"
            assert expected[way][0] == "returns"
            for ours, right in zip(result, expected[way][1], strict=True):
                assert torch.equal(ours, right), f"{value!r}, {way}"


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    "image",
    [
        *(torch.zeros(shape) for shape in ((2, 0, 8, 8), (0, 0, 4, 4), (1, 4, 0, 4), (1, 4, 4, 0), (4, 4, 4), ())),
        *(torch.ones(1, 4, 4, 4).to(dtype) for dtype in (torch.int64, torch.int8, torch.bool, torch.complex64)),
        [[1.0]],
        None,
    ],
    ids=lambda value: f"{tuple(value.shape)} {value.dtype}" if isinstance(value, torch.Tensor) else repr(value),
)
def test_images(operator, image) -> None:
    """Of no channels, rows or columns, of other dimensions or dtypes, or none at all."""
    name = testing.operator(operator).tensors[0]
    tensors, options = arguments(operator, case_of("", (1, 4, 4, 4), cases(operator)[0].options))
    single = cast(tensors, torch.float32)
    found = []
    for backend in BACKENDS[operator]:
        for gradient in (False, True):
            given = {k: v.clone().requires_grad_(gradient) for k, v in single.items()}
            found.append(outcome(lambda g=given, b=backend: invoke(operator, {**g, name: image}, options, b)))
    assert len(set(found)) == 1, found
    assert found[0][0] in ("TypeError", "ValueError")
    assert found[0][1].startswith(f"{name} must ")


@pytest.mark.parametrize(("operator", "changes", "error", "message"), test_arguments.WRONG)
def test_arguments_that_do_not_fit(operator, changes, error, message) -> None:
    """What `test_arguments.py` finds refused without a gradient is refused so with one."""
    found = []
    for gradient in (False, True):
        tensors, options = arguments(operator, cases(operator)[0])
        leaves = {name: t.requires_grad_(gradient) for name, t in cast(tensors, torch.float32).items()}
        found.append(outcome(lambda g={**leaves, **options, **changes}: getattr(lkops, operator)(**g)))
    assert found[0] == found[1]
    assert found[0][0] == error.__name__


@pytest.mark.parametrize("backend", [(), "", ["cpu", "gpu"], ("cpu", 5), "cpu,gpu", 0, False, {"cpu": 1}, b"cpu"])
def test_backends_that_are_none(backend) -> None:
    for operator in OPERATORS:
        tensors, options = arguments(operator, case_of("", (1, 4, 4, 4), cases(operator)[0].options))
        found = []
        for gradient in (False, True):
            leaves = {k: v.requires_grad_(gradient) for k, v in cast(tensors, torch.float32).items()}
            found.append(outcome(lambda g=leaves, t=options, o=operator: invoke(o, g, t, backend)))
        assert found[0] == found[1]
        assert found[0][0] in ("TypeError", "ValueError")
        assert found[0][1].startswith("backend ")


def test_sizes_that_a_compiler_traces() -> None:
    """A whole number may be symbolic: a scale that is an argument of a compiled function, or some tensor's size."""
    torch.compiler.reset()

    def enlarge(x, like, scale):
        return lkops.bicubic_upsample(x, scale=scale), lkops.bicubic_upsample(x, scale=like.shape[0])

    compiled = torch.compile(enlarge, fullgraph=True, dynamic=True, backend="aot_eager")
    x = torch.randn(2, 3, 5, 6)
    for scale in (2, 3, 4):
        like = x.new_empty(scale)
        for ours, right in zip(compiled(x, like, scale), enlarge(x, like, scale), strict=True):
            assert torch.equal(ours, right)
