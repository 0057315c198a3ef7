"""Who runs a benchmark's problem: eager PyTorch, torch.compile, lkops and the runtimes. Each gives a `Runner`."""

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

import lkops

from ..models import LKCANet
from ..objectives.losses import h_loss
from . import eager
from .runtimes import OnnxRuntimeRunner, OpenVINORunner, Runner, Unavailable, ncnn_network

Mode = Literal["forward", "backward", "full", "training"]
Tensors = tuple[Tensor, ...]
CHANNELS_LAST = "eager channels_last"
# the eager ones come first: they are the yardstick
PROVIDERS = ("eager", CHANNELS_LAST, "compile", "openvino", "openvino bf16", "lkops", "lkops bf16")
RELAXED = "lkops relaxed"
# those that only some problems have, or that are asked for by name
MORE = ("onnxruntime", "ncnn", RELAXED)
EVERY = (*PROVIDERS, *MORE)
FORWARD_ONLY = ("openvino", "openvino bf16")  # OpenVINO is a runtime for inference
RUNTIMES = (*FORWARD_ONLY, "onnxruntime", "ncnn")


class Adapter(nn.Module):
    """`function(module, *activations)` as a module with the parameters of `module`; returns a tuple."""

    def __init__(self, module: nn.Module, function: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *activations: Tensor) -> Tensors:
        result = self.module(*activations) if self.function is None else self.function(self.module, *activations)
        return (result,) if isinstance(result, Tensor) else tuple(result)


@dataclass
class Problem:
    """What is computed, by lkops and as an engineer would write it in eager PyTorch.

    Attributes:
        ours, plain: modules with the same parameters in the same order; they take the activations and return a tuple.
        activations: float32; those with gradients require them.
        gradients: of the outputs, where they are not normal numbers.
        network: a whole network: errors are compared as norms, since its roundings add up in another order.
        kinks: fraction of values that may be far off, where rounding decides on which side of a kink they lie.
        double: check against float64. A large output is checked against eager float32 instead, for want of memory.
        relaxed: `ours` with `accuracy="relaxed"`, where there is such a thing.
        exact: what float64 is computed with; None is `ours`, by the reference operators.
        converted: a runtime's name to (threads) -> `Runner`, for those that can't convert modules.
    """

    ours: nn.Module
    plain: nn.Module
    activations: Tensors
    gradients: Callable[[Tensors], Tensors] | None = None
    network: bool = False
    kinks: float = 0.0
    double: bool = True
    relaxed: nn.Module | None = None
    exact: nn.Module | None = None
    converted: dict[str, Callable[[int], Runner]] = field(default_factory=dict)


def ours_h_loss(network: nn.Module, *tensors: Tensor) -> Tensor:
    """Of a low-resolution image, what the plain form takes besides, and the target."""
    return h_loss(network(tensors[0]), tensors[-1]).total


def plain_h_loss(network: nn.Module, *tensors: Tensor) -> Tensor:
    """The same in eager PyTorch, which takes all but the target."""
    l1, sam, _, gradient = eager.spectral_losses(network(*tensors[:-1]), tensors[-1])
    return l1 + 0.5 * sam + 0.1 * gradient


def wake_up(model: LKCANet) -> None:
    """Give a fresh network, whose upsampler is zero, something to add to the bicubic image, so that it can be wrong."""
    with torch.no_grad():
        model.upsample.conv.get_parameter("parametrizations.weight.original0").fill_(0.1)


LARGE = 1 << 24  # values of an output that is checked against eager float32: in float64 it would take gigabytes


def network_problem(model: LKCANet, shape: Sequence[int], *, training: bool = False) -> Problem:
    """LKCA-Net on an image (N, B, H, W) of random numbers.

    Args:
        model: for inference it is folded; in training it keeps its weight normalisation and there is the H loss. Its
            upsampler is woken up: a fresh one returns the bicubic image.
    """
    double = math.prod(shape) * model.scale**2 <= LARGE
    wake_up(model)
    lowres = torch.rand(*shape)
    if not training:
        folded = model.eval().fold().requires_grad_(False)
        plain = Adapter(eager.Network(folded))
        return Problem(Adapter(folded), plain, (lowres,), network=True, double=double)
    n, bands, h, w = shape
    target = torch.rand(n, bands, model.scale * h, model.scale * w)
    return Problem(
        Adapter(model.train(), ours_h_loss),
        Adapter(eager.Network(model, folded=False), plain_h_loss),
        (lowres, target),
        lambda outputs: tuple(map(torch.ones_like, outputs)),
        network=True,
        double=double,
    )


class TorchRunner(Runner):
    """A module of PyTorch.

    Args:
        module: the provider's own copy: training changes its weights.
        activations: the provider's own.
        gradients: of the outputs; not used by "forward".
        mode: "training" is forward, backward and a step of fused Adam.
        context: what everything runs in: autocast, a backend.
        quiet: what forwards without gradients run in; `torch.compile` can't freeze in inference mode.
    """

    def __init__(
        self,
        module: nn.Module,
        activations: Tensors,
        gradients: Tensors,
        mode: Mode,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        quiet: Callable[[], AbstractContextManager[Any]] = torch.inference_mode,
    ) -> None:
        self.module, self.activations, self.mode, self.context, self.quiet = module, activations, mode, context, quiet
        self.gradients = gradients
        parameters = [p for p in module.parameters() if p.requires_grad]
        self.leaves = [*(t for t in activations if t.requires_grad), *parameters]
        # a rate so small that a thousand steps do not change what is computed
        self.optimizer = torch.optim.Adam(parameters, lr=1e-7, fused=True) if mode == "training" else None

    def _forward(self) -> Tensors:
        outputs: Tensors = self.module(*self.activations)
        return outputs

    def untimed(self) -> Any:
        if self.optimizer is not None:
            self.optimizer.zero_grad(set_to_none=True)
        if self.mode == "backward":
            with self.context():
                return self._forward()
        return None

    def run(self, state: Any) -> Any:
        with self.context():
            if self.mode == "forward":
                with self.quiet():
                    return self._forward()
            outputs = self._forward() if state is None else state
            if self.optimizer is None:
                return torch.autograd.grad(outputs, self.leaves, self.gradients)
            torch.autograd.backward(outputs, self.gradients)
            return self.optimizer.step()

    def results(self) -> list[Tensor]:
        with self.context():
            if self.mode == "forward":
                with self.quiet():
                    return list(self._forward())
            outputs = self._forward()
            gradients = [g.to(o.dtype) for g, o in zip(self.gradients, outputs, strict=True)]
            return [*(o.detach() for o in outputs), *torch.autograd.grad(outputs, self.leaves, gradients)]


def _last(t: Tensor) -> Tensor:
    if t.dim() != 4:
        return t
    return t.detach().contiguous(memory_format=torch.channels_last).requires_grad_(t.requires_grad)


def _runtime(problem: Problem, name: str, mode: Mode) -> Runner:
    if mode != "forward":
        raise Unavailable(f"{name.split()[0]} has no {mode}")
    threads = torch.get_num_threads()
    if name in problem.converted:
        return problem.converted[name](threads)
    plain = copy.deepcopy(problem.plain)
    if name == "ncnn":
        return ncnn_network(plain, problem.activations, threads)
    if name == "onnxruntime":
        return OnnxRuntimeRunner(plain, problem.activations, threads)
    return OpenVINORunner(plain, problem.activations, "bf16" if name.endswith("bf16") else "f32", threads)


def runner(problem: Problem, name: str, mode: Mode, gradients: Tensors, backend: str | None = None) -> Runner:
    """The provider of this name, with copies of everything that it may change.

    Args:
        name: of `EVERY`.
        gradients: of the outputs.
        backend: of `lkops.backends`, for lkops; None is the automatic choice.

    Raises:
        Unavailable: the provider can't run here, or not in this mode.
    """
    if name in RUNTIMES:
        return _runtime(problem, name, mode)
    if name.startswith("lkops"):
        if name == RELAXED and problem.relaxed is None:
            raise Unavailable("nothing here can be relaxed")
        ours = problem.relaxed if name == RELAXED and problem.relaxed is not None else problem.ours

        def context() -> AbstractContextManager[Any]:
            if name == "lkops bf16":
                return torch.autocast("cpu", dtype=torch.bfloat16)
            return nullcontext() if backend is None else lkops.backend(backend)

        return TorchRunner(copy.deepcopy(ours), problem.activations, gradients, mode, context)
    module = copy.deepcopy(problem.plain)
    if name == CHANNELS_LAST:
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        last = tuple(map(_last, problem.activations))
        return TorchRunner(module, last, tuple(map(_last, gradients)), mode)
    if name == "eager":
        return TorchRunner(module, problem.activations, gradients, mode)
    if name != "compile":
        raise ValueError(f"provider must be one of {', '.join(EVERY)}, got {name!r}")
    torch.compiler.reset()
    freezing: Any = {"freezing": True} if mode == "forward" else {}
    compiled: Any = torch.compile(module, fullgraph=True, dynamic=False, options=freezing)
    return TorchRunner(compiled, problem.activations, gradients, mode, quiet=torch.no_grad)
