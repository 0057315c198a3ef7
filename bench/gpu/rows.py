"""The rows of the GPU gate: what is run, on what, and what it must reach. `bench.gpu.worker` checks and times them."""

# long: one table, and what its rows are made of

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bench.without_gpu import work
from bench.without_gpu.work import Work
from lkcanet.benchmark import eager
from lkcanet.benchmark.operators import activations, both_forms, outputs_gradients
from lkcanet.benchmark.providers import Adapter, ours_h_loss, plain_h_loss, wake_up
from lkcanet.models import lkca_lr
from lkops import testing
from lkops.testing import TORCH_BICUBIC

SCALE = 4


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


def _normal_like(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.randn_like(output) for output in outputs)


def _operator(operator: str, example: testing.Example, device: str, half: bool, *, backward: bool = True) -> Case:
    """An operator's example, forward or with its backward; what needs no gradient stays float32 in the upsampler."""
    known = testing.examples(operator)
    dtype, seeds = torch.bfloat16 if half else torch.float32, itertools.count()
    tensors = testing.cast(known.arguments(example), torch.float32, device)

    def draw() -> tuple[Tensor, ...]:
        drawn = known.arguments(example, testing.Draw(next(seeds)))
        images = {name: drawn[name] for name in known.images}
        found = activations(operator, testing.cast(images, torch.float32, device), dtype)
        if operator == "spectral_losses":  # both cubes in one dtype
            return found[0], found[1].to(dtype)
        return found if backward else tuple(image.detach() for image in found)

    ours, plain = both_forms(operator, tensors, example.options)
    least = work.least(operator, example, "full" if backward else "forward", dtype.itemsize)
    gradients = (outputs_gradients(operator) or _normal_like) if backward else None
    return Case(ours, plain, draw, gradients, None, least)


def _model(device: str, bands: int, channels: int, blocks: int) -> Any:
    """LKCA-LR that is past its first step: a fresh one returns the bicubic image."""
    with torch.device(device):
        model = lkca_lr(bands, SCALE, channels=channels, blocks=blocks, drop_path=0.0, **TORCH_BICUBIC)
    wake_up(model)
    return model


Sizes = tuple[int, int, int]  # bands, channels, blocks


def _network(shape: tuple[int, int, int], sizes: Sizes, device: str, half: bool) -> Case:
    n, h, w = shape
    bands, channels, blocks = sizes
    folded = _model(device, *sizes).eval().fold()
    forward = work.network(n, h, w, 2 if half else 4, bands=bands, channels=channels, blocks=blocks, scale=SCALE)
    return Case(
        Adapter(folded),
        Adapter(eager.Network(folded)),
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

    def draw() -> tuple[Tensor, ...]:
        lowres = torch.rand(n, bands, h, w, device=device)
        return lowres, torch.rand(n, bands, SCALE * h, SCALE * w, device=device)

    step = work.training_step(
        *(n, h, w, 2 if half else 4),
        parameters=model.parameter_count(),
        **{"bands": bands, "channels": channels, "blocks": blocks, "scale": SCALE},
    )
    return Case(
        Adapter(model, ours_h_loss),
        Adapter(eager.Network(model, folded=False), plain_h_loss),
        draw,
        lambda outputs: tuple(map(torch.ones_like, outputs)),
        lambda parameters: torch.optim.Adam(parameters, lr=1e-4, foreach=True),
        step,
    )


def rows(*, tiny: bool = False) -> list[Row]:
    """The rows, cheap ones first; `tiny` ones have the same names and fit the interpreter."""
    sizes = (8, 16, 1) if tiny else (128, 128, 16)
    b = sizes[0]
    small, large = (4, 8) if tiny else (16, 128)
    n = 2 if tiny else 32
    faster = {"eager": 3.0, "compile": 1.5}

    def title(what: str, *shape: int) -> str:
        return f"{what} {'x'.join(map(str, shape))}"

    def operator(row: str, name: str, example: str, what: str, targets: dict[str, float], **facts: Any) -> Row:
        case = testing.examples(name)[example]
        case = case.tiny() if tiny else case
        backward = "backward" in what
        make = partial(_operator, name, case, backward=backward)
        return Row(row, title(what, *case.shape), make, targets, kinks=testing.examples(name).kinks, **facts)

    both = "forward + backward,"
    attention = "large_kernel_channel_attention"
    return [
        operator(
            *("spectral_losses", "spectral_losses", "patches_64", f"spectral_losses {both}"),
            {"bandwidth": 0.7, "eager": 5.0, "compile": 1.3},
            autotune=True,
        ),
        operator("attention_small", attention, "patches_16", f"attention {both}", faster),
        operator("attention_large", attention, "image_128", f"attention {both}", faster, autotune=True),
        operator(
            *(
                "upsample_add",
                "upsample_add",
                "image_128_torch",
                f"upsample_add forward, B={16 if tiny else 128}, x4, g=8,",
            ),
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
