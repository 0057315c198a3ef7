"""An operator outside lkops, held to the rule that lkops' own are held to.

A package of three modules: this one, with the public function and the registration, `reference`, which defines what is
computed, and `examples`, from which `lkops.testing` takes its arguments. The kernel stands for yours: C++, a Triton
launch, anything that fills tensors. Autograd, autocast, fake tensors, `torch.compile` and the choice of a backend come
from the registration.
"""

import torch
from torch import Tensor

from lkops.testing import Kernels, operator, register

from .reference import reference

__all__ = ["scale_channels"]


def scale_channels(x: Tensor, weight: Tensor, *, times: int = 2, backend: str | None = None) -> Tensor:
    """y[n, c, h, w] = times * weight[c] * x[n, c, h, w].

    Args:
        x: (N, C, H, W), float32 on the CPU for the kernel, any floating dtype for the reference.
        weight: (1, C, 1, 1).
        times: a whole number.
        backend: "cpu" or "reference"; None takes the first that serves.
    """
    return operator("scale_channels")((x, weight), lambda: (times,), backend)


def _forward(x: Tensor, weight: Tensor, times: int) -> Tensor:
    return torch.mul(x, weight).mul_(times)  # one pass and a half; yours writes once


def _backward(grad: Tensor, x: Tensor, weight: Tensor, times: int) -> tuple[Tensor, Tensor]:
    return torch.mul(grad, weight).mul_(times), torch.einsum("nchw,nchw->c", grad, x).mul_(times).view_as(weight)


OPERATOR = register(
    "scale_channels",
    reference,
    kernels={"cpu": Kernels((torch.float32,))},
    forward="(Tensor x, Tensor weight, int times) -> Tensor y",
    backward="(Tensor grad_y, Tensor x, Tensor weight, int times) -> (Tensor, Tensor)",
    fake_forward=lambda x, weight, times: torch.empty_like(x),
    fake_backward=lambda grad, x, weight, times: (torch.empty_like(x), torch.empty_like(weight)),
)
OPERATOR.missing["cpu"] = ""  # it is there: nothing says why not
_IMPLEMENTATIONS = torch.library.Library("lkops", "IMPL")  # kept: they go with it
_IMPLEMENTATIONS.impl("scale_channels_cpu_fwd", _forward, "CPU")
_IMPLEMENTATIONS.impl("scale_channels_cpu_bwd", _backward, "CPU")
