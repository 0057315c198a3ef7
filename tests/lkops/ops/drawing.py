"""Problems drawn from a seed for the sweeps: shapes, options, strides, which tensors there are, which need a gradient,
and where the gradient of the output is not zero. The same seed gives the same problem."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lkops.testing import Arguments, Draw, Example, arguments, as_tuple, assert_as_good_as_eager, invoke, policy_of

# tensors that may be left out; without reduce_bias hidden units would lie at the kink of ReLU, where roundings decide
OPTIONAL = (
    "bias",
    "residual",
    "lowres",
    "dw1_bias",
    "dw2_bias",
    "expand_bias",
    "mix_bias",
    "in_bias",
    "out_bias",
    "keep",
)
WIDER = {"upsample_add": "lowres", "spectral_losses": "target"}  # what may be float32 beside half precision
SIDES = (1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 19, 31, 32, 33, 40, 65)
ODD = (1, 3, 5, 7, 9, 11)
CONV_ACTIVATIONS = (None, None, "relu", "leaky_relu", "prelu", "gelu", "silu", "sigmoid")


@dataclass
class Drawn:
    """One problem. `where` is the part of the outputs whose gradient is not zero; `needs` of which tensors a gradient
    is asked for."""

    seed: str
    tensors: Arguments
    options: dict[str, Any]
    layouts: dict[str, str]
    needs: tuple[str, ...]
    where: str
    wider: str = ""

    def __str__(self) -> str:
        shapes = {name: None if t is None else tuple(t.shape) for name, t in self.tensors.items()}
        return f"seed {self.seed!r}: {shapes}, {self.options}, {self.layouts}, {self.needs}, {self.where}, {self.wider}"


def drawn(operator: str, seed: str, *, tiny: bool = False) -> Drawn:
    """The problem of this seed. `tiny` is for Triton's interpreter: hundredths of the work."""
    pick = random.Random(f"{operator} {seed}")
    most = 60 if tiny else 20000  # elements of the image
    batch = pick.choice((0, 1, 1, 1, 2, 2, 3, 4, 5, 7, 11, 17, 20))
    divisors = pick.choice((1, 2, 3, 4) if tiny else (1, 2, 3, 4, 6, 8, 16))
    channels = divisors * pick.choice((1, 1, 2, 3) if tiny else (1, 2, 3, 4, 5, 7, 8, 11, 16))
    if pick.random() < 0.15 and (not tiny or operator in ("norm_conv1x1_gelu", "spectral_losses")):
        channels = 256 // divisors * divisors
        batch = min(batch, 1) if tiny else batch  # 9 s a sample
    elif tiny:  # a program a plane
        batch = min(batch, max(20 // channels, 1))
    if operator == "spectral_losses":  # spectra of one band are parallel: their losses are 0, and eager's exactly
        channels += 1
    room = most // (max(batch, 1) * channels)
    height = pick.choice([side for side in SIDES if side <= room] or [1])
    width = pick.choice([side for side in SIDES if side * height <= room] or [1])
    pixels = max(batch, 1) * channels * height * width
    scale = pick.choice([r for r in range(1, 10) if not tiny or r * r * pixels <= 500] or [2])
    options: dict[str, Any] = {}
    names: dict[str, Any] = {}
    if operator in ("bicubic_upsample", "upsample_add"):
        options = {"scale": scale, "cubic_a": pick.choice((-0.5, -0.75, -1, 0.25))}
        options["border"] = pick.choice(("symmetric", "replicate"))
    if operator == "upsample_add":
        names = {"bands": divisors * pick.choice((1, 2, 3)) if divisors < 5 else divisors, "groups": divisors}
        if tiny or scale > 5:
            names["bands"] = divisors
    if operator == "depthwise_conv2d":
        options = {"dilation": pick.choice((1, 1, 2, 3, 5, 7))}
    if operator in ("large_kernel_channel_attention", "lk_block"):
        options = {"dilations": (pick.choice((1, 2, 5)), pick.choice((1, 3, 7))), "interleave": pick.random() < 0.5}
        names = {"groups": divisors}
    if operator == "norm_conv1x1_gelu":
        names = {"outputs": pick.choice((1, 2, 7, 16, 33, 64, 96)), "mean": pick.choice((0.0, 1.0, 30.0))}
    if operator == "conv2d":
        options, names = _conv_options(pick, divisors)
    if operator in ("norm_conv1x1_gelu", "lk_block"):
        options["eps"] = pick.choice((1e-6, 1e-5, 1e-3, 0.5))
    tensors, _ = arguments(operator, Example("drawn", (batch, channels, height, width), options, names))
    for name, tensor in tensors.items():
        if (name.startswith("dw") and name.endswith("weight")) or (operator, name) == ("depthwise_conv2d", "weight"):
            sides = [pick.choice(ODD[: 2 if tiny else 6]) for _ in range(2)]
            tensors[name] = Draw(1)(channels, 1, *sides, scale=(sides[0] * sides[1]) ** -0.5)
        if (operator, name) == ("upsample_add", "weight") and tensor is not None:
            sides = [pick.choice(ODD[: 2 if tiny else 3]) for _ in range(2)]
            tensors[name] = Draw(1)(*tensor.shape[:2], *sides, scale=(tensor.shape[1] * sides[0] * sides[1]) ** -0.5)
        if name == "reduce_bias" and tensor is not None:
            tensors[name] = tensor.sign() * (3 + tensor.abs())
        if name in OPTIONAL and pick.random() < 0.2:
            tensors[name] = None
    if tensors.get("keep") is not None and pick.random() < 0.5:
        tensors["keep"][::2] = 0  # type: ignore[index]
    there = [name for name, tensor in tensors.items() if tensor is not None]
    some = [name for name in there if pick.random() < 0.5] or there[:1]
    return Drawn(
        seed,
        tensors,
        options,
        {name: pick.choice(("dense", "dense", "channels_last", "transposed", "sliced")) for name in (*there, "grad")},
        tuple(there if pick.random() < 0.6 else some),
        pick.choice(("all", "all", "last sample", "last channel", "last row", "last column", "one pixel")),
        WIDER.get(operator, "") if pick.random() < 0.3 else "",
    )


def _conv_options(pick: random.Random, groups: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options and sizes of a conv; every other one is of 3x3 taps and stride 1, as Winograd's algorithm takes."""
    options: dict[str, Any] = {"activation": pick.choice(CONV_ACTIVATIONS), "slope": pick.choice((0.01, 0.3, -0.2))}
    options |= {"residual_scale": pick.choice((1, 1, 0.1, -2.0)), "groups": pick.choice((1, 1, groups))}
    names = {"outputs": options["groups"] * pick.choice((1, 2, 3, 7, 16, 33)), "side": 3}
    if pick.random() < 0.5:
        names["side"] = pick.choice((1, 2, 3, 4, 5, 7))
        options["stride"] = pick.choice((1, 2, 3, (1, 2), (3, 1)))
        options["dilation"] = pick.choice((1, 1, 2, 3, (2, 1)))
        options["padding"] = pick.choice(("valid", 0, 1, 3, (2, 0), *(("same",) * 3 if names["side"] % 2 else ())))
    return options, names


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same numbers with other strides."""
    if layout == "channels_last" and tensor.dim() == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == "transposed" and tensor.dim() > 1:
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "sliced" and tensor.dim() > 0:
        padded = tensor.new_full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1), torch.nan)
        padded[..., 1::2] = tensor
        return padded[..., 1::2]
    return tensor.clone()


def only(grad: Tensor, where: str) -> Tensor:
    """Zeros but for a part: what a kernel leaves out there is all that there is."""
    kept = torch.zeros_like(grad)
    if grad.dim() != 4 or where == "all":
        return grad
    part: dict[str, Any] = {
        "last sample": (slice(-1, None),),
        "last channel": (slice(None), slice(-1, None)),
        "last row": (..., slice(-1, None), slice(None)),
        "last column": (..., slice(-1, None)),
        "one pixel": (..., slice(-1, None), slice(-1, None)),
    }
    kept[part[where]] = grad[part[where]]
    return kept


def results(operator: str, problem: Drawn, dtypes: dict[str, torch.dtype], backend: str) -> dict[str, Tensor]:
    """Outputs and the gradients that are asked for, by name."""
    leaves = {}
    for name, tensor in problem.tensors.items():
        if tensor is not None:
            leaf = laid_out(tensor.to(dtypes[name]), problem.layouts[name]).detach()
            leaves[name] = leaf.requires_grad_(name in problem.needs)
    given = {name: leaves.get(name) for name in problem.tensors}
    outputs = as_tuple(invoke(operator, given, problem.options, backend))
    draw = Draw()
    # with a mean: what sums to almost nothing is no better than its roundings
    grads = [only(draw(*output.shape) + 1, problem.where).to(output.dtype) for output in outputs]
    torch.autograd.backward(outputs, [laid_out(grad, problem.layouts["grad"]) for grad in grads])
    found = {f"output {i}": output.detach() for i, output in enumerate(outputs)}
    for name in problem.needs:
        assert leaves[name].grad is not None, f"no gradient for {name}"
        found[f"gradient of {name}"] = leaves[name].grad
    return found


@contextmanager
def threads(count: int) -> Iterator[None]:
    """For the kernels alone: torch's own would wait for each other where cores are few."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_drawn(operator: str, backend: str, dtype: torch.dtype, problem: Drawn) -> None:
    """Outputs and gradients by the project's tolerance; those of the reference itself within 64 roundings."""
    dtypes = {name: torch.float32 if name == problem.wider else dtype for name in problem.tensors}
    problem.tensors = {name: None if t is None else t.to(dtypes[name]).double() for name, t in problem.tensors.items()}
    exact = results(operator, problem, dict.fromkeys(problem.tensors, torch.float64), "reference")
    eager = results(operator, problem, dtypes, "reference")
    if backend == "reference":
        for what, value in eager.items():
            if value.numel():
                error, most = (value.double() - exact[what]).abs().max(), exact[what].abs().max()
                assert error <= 64 * torch.finfo(dtype).eps * most + 1e-30, f"{what}: {error:.1e} of {most:.1e}"
        return
    ours = results(operator, problem, dtypes, backend)
    assert ours.keys() == exact.keys()
    for what, value in ours.items():
        slack = 2 if value.numel() > 8 else 4  # the fewer the numbers, the luckier eager may be
        assert_as_good_as_eager(
            {what: value}, {what: eager[what]}, {what: exact[what]}, policy_of(backend).scaled(slack)
        )
    if backend == "cpu":
        with threads(2):
            again = results(operator, problem, dtypes, backend)
        for what, value in again.items():
            assert torch.equal(value, ours[what]), f"{what} has other bits with two threads"
