"""The rows of the GPU gate: what is run, on what, and what it must reach. `bench.gpu.worker` checks and times them."""

# long: one table, and what its rows are made of

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import lkops
import lkops.nn
from bench.without_gpu import work
from bench.without_gpu.work import Work
from lkcanet.benchmark import eager
from lkcanet.models import lkca_lr
from lkcanet.objectives.losses import h_loss

SCALE = 4
LOSS_GRADIENTS = (1.0, 0.5, 0.3, 0.1)  # of the four losses, fixed
# torch's own bicubic: what eager has as one op, so that none is slowed by emulating MATLAB's
TORCH_BICUBIC: dict[str, Any] = {"cubic_a": -0.75, "border": "replicate"}


@dataclass
class Case:
    """A row in one dtype, on one device.

    Attributes:
        ours, plain: the same function, by lkops and as an engineer would write it, with the same parameters;
            activations to a tuple of outputs.
        draw: a fresh set of activations; those of a backward require gradients.
        gradients: of the outputs, for these activations; None where there is no backward.
        optimizer: makes the optimiser of a training step from the module's parameters.
        work: what must be moved and multiplied.
    """

    ours: nn.Module
    plain: nn.Module
    draw: Callable[[], tuple[Tensor, ...]]
    gradients: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]] | None
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None
    work: Work


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        name: of the row; `title` names it in tables.
        make: (device, half) to a `Case`; `half` is bfloat16 autocast with bfloat16 activations.
        targets: what must be reached: "eager" and "compile" times as fast as these, "bandwidth" or "limit" as a
            fraction of the measured copy bandwidth or of the larger of the two limits.
        graph: whether the times that count are of CUDA graphs.
        autotune: whether torch.compile is run with max-autotune, too.
        network: a whole network: errors are compared as norms, since its roundings add up in another order.
        kinks: fraction of values that may be far off, where rounding decides on which side of a kink they lie.
    """

    name: str
    title: str
    make: Callable[[str, bool], Case]
    targets: dict[str, float]
    graph: bool = False
    autotune: bool = False
    network: bool = False
    kinks: float = 0.0


def step(module: nn.Module, case: Case, activations: tuple[Tensor, ...]) -> Callable[[], Any]:
    """One call of a row's module as the row says: forward, with backward, or a training step."""
    if case.gradients is None:

        def forward() -> Any:
            with torch.inference_mode():
                return module(*activations)

        return forward
    gradients = case.gradients
    if case.optimizer is not None:
        parameters = list(module.parameters())
        optimizer = case.optimizer(parameters)

        def train() -> None:
            optimizer.zero_grad(set_to_none=True)
            outputs = module(*activations)
            torch.autograd.backward(outputs, gradients(outputs))
            optimizer.step()

        return train
    leaves = [t for t in (*activations, *module.parameters()) if t.requires_grad]
    given: list[Tensor] = []

    def both() -> Any:
        outputs = module(*activations)
        if not given:
            given.extend(gradients(outputs))
        return torch.autograd.grad(outputs, leaves, given)

    return both


class Plain(nn.Module):
    """`function(module, *activations)` as a module that shares the parameters of `module`."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *activations: Tensor) -> tuple[Tensor, ...]:
        result = self.function(self.module, *activations)
        return (result,) if isinstance(result, Tensor) else tuple(result)


def _call(module: nn.Module, *activations: Tensor) -> Any:
    return module(*activations)


def _dtype(half: bool) -> torch.dtype:
    return torch.bfloat16 if half else torch.float32


def _normal_like(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.randn_like(output) for output in outputs)


def _losses(shape: tuple[int, int, int, int], device: str, half: bool) -> Case:
    def draw() -> tuple[Tensor, ...]:
        target = torch.rand(shape, device=device)
        prediction = target + 0.1 * torch.randn(shape, device=device)
        return prediction.to(_dtype(half)).requires_grad_(), target.to(_dtype(half))

    module = lkops.nn.SpectralLosses()
    return Case(
        Plain(module, _call),
        # widened by hand: in bfloat16 a cosine rounds to 1, whose arccos has no slope
        Plain(module, lambda _, *cubes: eager.spectral_losses(*(cube.float() for cube in cubes))),
        draw,
        lambda outputs: tuple(torch.full_like(o, g) for o, g in zip(outputs, LOSS_GRADIENTS, strict=True)),
        None,
        work.losses(*shape, 2 if half else 4),
    )


def _attention(shape: tuple[int, int, int, int], device: str, half: bool) -> Case:
    n, c, h, w = shape
    size = 2 if half else 4
    with torch.device(device):
        module = lkops.nn.LargeKernelChannelAttention(c)
    return Case(
        Plain(module, _call),
        Plain(module, lambda attention, u: eager.large_kernel_channel_attention(u, *attention.arguments())),
        lambda: (torch.randn(shape, device=device).to(_dtype(half)).requires_grad_(),),
        _normal_like,
        None,
        work.with_backward(work.attention(*shape, size), n * c * h * w * size),
    )


def _upsample(shape: tuple[int, int, int, int], bands: int, device: str, half: bool) -> Case:
    n, _, h, w = shape
    with torch.device(device):
        module = lkops.nn.UpsampleAdd(shape[1], bands, SCALE, groups=8, **TORCH_BICUBIC)

    def plain(up: Any, features: Tensor, lowres: Tensor) -> Tensor:
        return eager.upsample_add(features, up.conv.weight, up.conv.bias, lowres, scale=SCALE, **TORCH_BICUBIC)

    def draw() -> tuple[Tensor, ...]:
        return torch.randn(shape, device=device).to(_dtype(half)), torch.rand(n, bands, h, w, device=device)

    forward = work.upsample_add(*shape, 2 if half else 4, bands=bands, scale=SCALE, groups=8)
    return Case(Plain(module, _call), Plain(module, plain), draw, None, None, forward)


def _model(device: str, bands: int, channels: int, blocks: int) -> Any:
    """LKCA-LR that is past its first step: a fresh one returns the bicubic image."""
    with torch.device(device):
        model = lkca_lr(bands, SCALE, channels=channels, blocks=blocks, drop_path=0.0, **TORCH_BICUBIC)
    with torch.no_grad():
        model.upsample.conv.get_parameter("parametrizations.weight.original0").fill_(0.1)
    return model


Sizes = tuple[int, int, int]  # bands, channels, blocks


def _network(shape: tuple[int, int, int], sizes: Sizes, device: str, half: bool) -> Case:
    n, h, w = shape
    bands, channels, blocks = sizes
    folded = _model(device, *sizes).eval().fold()
    forward = work.network(n, h, w, 2 if half else 4, bands=bands, channels=channels, blocks=blocks, scale=SCALE)
    return Case(
        Plain(folded, _call),
        Plain(eager.Network(folded), _call),
        lambda: (torch.rand(n, bands, h, w, device=device),),
        None,
        None,
        forward,
    )


def _training(shape: tuple[int, int, int], sizes: Sizes, device: str, half: bool) -> Case:
    """Weight normalisation stays, as in training; drop path, which is random, is left out."""
    n, h, w = shape
    bands, channels, blocks = sizes
    model = _model(device, *sizes)

    def ours(network: nn.Module, lowres: Tensor, target: Tensor) -> Tensor:
        return h_loss(network(lowres), target).total

    def plain(network: nn.Module, lowres: Tensor, target: Tensor) -> Tensor:
        l1, sam, _, gradient = eager.spectral_losses(network(lowres), target)
        return l1 + 0.5 * sam + 0.1 * gradient

    def draw() -> tuple[Tensor, ...]:
        lowres = torch.rand(n, bands, h, w, device=device)
        return lowres, torch.rand(n, bands, SCALE * h, SCALE * w, device=device)

    step = work.training_step(
        *(n, h, w, 2 if half else 4),
        parameters=model.parameter_count(),
        **{"bands": bands, "channels": channels, "blocks": blocks, "scale": SCALE},
    )
    return Case(
        Plain(model, ours),
        Plain(eager.Network(model, folded=False), plain),
        draw,
        lambda outputs: tuple(map(torch.ones_like, outputs)),
        lambda parameters: torch.optim.Adam(parameters, lr=1e-4, foreach=True),
        step,
    )


def rows(*, tiny: bool = False) -> list[Row]:
    """The rows, cheap ones first; `tiny` ones have the same names and fit the interpreter."""
    sizes = (8, 16, 1) if tiny else (128, 128, 16)
    b, c = sizes[:2]
    small, large = (4, 8) if tiny else (16, 128)
    n = 2 if tiny else 32
    faster = {"eager": 3.0, "compile": 1.5}
    cube = (1, b, 8, 8) if tiny else (n, b, 64, 64)

    def attention(*shape: int) -> Callable[[str, bool], Case]:
        return lambda device, half: _attention(shape, device, half)  # type: ignore[arg-type]

    def title(what: str, *shape: int) -> str:
        return f"{what} {'x'.join(map(str, shape))}"

    return [
        Row(
            "spectral_losses",
            title("spectral_losses forward + backward,", *cube),
            lambda device, half: _losses(cube, device, half),
            {"bandwidth": 0.7, "eager": 5.0, "compile": 1.3},
            autotune=True,
            kinks=1e-5,
        ),
        Row(
            "attention_small",
            title("attention forward + backward,", n, c, small, small),
            attention(n, c, small, small),
            faster,
        ),
        Row(
            "attention_large",
            title("attention forward + backward,", 1, c, large, large),
            attention(1, c, large, large),
            faster,
            autotune=True,
        ),
        Row(
            "upsample_add",
            title(f"upsample_add forward, B={b}, x4, g=8,", 1, c, large, large),
            lambda device, half: _upsample((1, c, large, large), b, device, half),
            {**faster, "limit": 0.6},
            autotune=True,
        ),
        Row(
            "forward_small",
            title("LKCA-LR x4 forward,", 1, b, small, small),
            lambda device, half: _network((1, small, small), sizes, device, half),
            {"eager": 2.0, "compile": 1.3},
            graph=True,
            network=True,
        ),
        Row(
            "forward_large",
            title("LKCA-LR x4 forward,", 1, b, large, large),
            lambda device, half: _network((1, large, large), sizes, device, half),
            {"eager": 2.0, "compile": 1.3},
            graph=True,
            network=True,
        ),
        Row(
            "training",
            title("LKCA-LR x4 training step,", n, b, small, small),
            lambda device, half: _training((n, small, small), sizes, device, half),
            {"eager": 2.5, "compile": 1.3},
            network=True,
        ),
    ]
