"""Capturing calls in CUDA graphs, a network's forward among them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from torch import Tensor

from ..models import Network
from .inputs import check_image, check_msi_tensor

Result = TypeVar("Result")

WARM_UP = 3  # calls before the capture: kernels are compiled, libraries choose their algorithms and workspaces


def capture(run: Callable[[], Result], device: torch.device) -> tuple[torch.cuda.CUDAGraph, Result]:
    """`run()` as a CUDA graph, and the tensors that every replay fills.

    `run` must work on the same tensors at every call and may not wait for the GPU. What it allocates during the capture
    belongs to the graph. Autocast holds in it, without its cache of cast weights: a graph that read the cache would
    read freed memory once autocast ends.
    """

    def uncached() -> AbstractContextManager[None]:
        on, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        return torch.autocast("cuda", dtype=dtype, enabled=on, cache_enabled=False)

    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), uncached():
            for _ in range(WARM_UP):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), uncached():
            result = run()
    return graph, result


class GraphedNetwork:
    """What `graphed` returns: a network's forward for one shape, replayed as a CUDA graph.

    Attributes:
        model: the folded copy of the network that was captured, in eval mode.
        input, output: the tensors that a replay reads and writes.
    """

    def __init__(self, model: Network, example: Tensor) -> None:
        self.model = model
        self.input = example.detach().clone(memory_format=torch.contiguous_format)
        with torch.inference_mode():
            self._graph, self.output = capture(lambda: _forward(model, self.input), example.device)

    def __call__(self, image: Tensor, *, copy: bool = True) -> Tensor:
        """The network's output for `image`.

        Args:
            image: of the shape, dtype and device of the example. It is not looked through for NaN.
            copy: return a tensor of its own; False returns `output` itself, which the next call overwrites.

        Raises:
            TypeError: not a tensor, or of another dtype.
            ValueError: of another shape or on another device.
        """
        if not isinstance(image, Tensor):
            raise TypeError(f"image must be a tensor, got {type(image).__name__}")
        if image.shape != self.input.shape:
            expected = tuple(self.input.shape)
            raise ValueError(f"image must have the shape of the example, {expected}, got {tuple(image.shape)}")
        if image.dtype is not self.input.dtype:
            raise TypeError(f"image must be {self.input.dtype} as the example is, got {image.dtype}")
        if image.device != self.input.device:
            raise ValueError(f"image must be on {self.input.device} as the example is, got {image.device}")
        with torch.cuda.device_of(image):
            self.input.copy_(image.detach())
            self._graph.replay()
            return self.output.clone() if copy else self.output


def graphed(model: Network, example: Tensor) -> GraphedNetwork:
    """Capture the network's forward for images like `example` in a CUDA graph.

    Launching a small image's kernels from Python can take longer than running them; a graph launches all at once.
    Weight normalisation is folded away in a copy, as in `super_resolve`. The graph reads that copy's weights at their
    addresses: what is written in place into `.model` of the result holds from the next call on, whereas `model` may
    change, train or move without any effect, and needs another `graphed` to be seen. Autocast, the backends of lkops
    and torch's precision settings are those of this call. The shape is fixed; a graph keeps its memory while it lives.

        fast = graphed(model, image)
        sharp = fast(image)

    Calls are ordered on the current stream; two threads or streams may not use one graph at the same time.

    Args:
        model: on the device of `example`, any mode.
        example: (N, B, H, W) or (B, H, W), floating, on a CUDA device; its pixels don't matter, as long as they are
            finite.

    Returns:
        A callable: an image of the example's shape, dtype and device to what `super_resolve` gives for it.

    Raises:
        TypeError: `example` is not a floating tensor.
        ValueError: it is not on a CUDA device or not on the model's, or it does not fit the network; the network fuses
            an MSI.
    """
    if not isinstance(example, Tensor):
        raise TypeError(f"example must be a tensor, got {type(example).__name__}")
    if example.device.type != "cuda":
        raise ValueError(f"example must be on a CUDA device, got {example.device}")
    check_image(model, "example", example)
    check_msi_tensor(model, example, None)
    parameter = next(model.parameters())
    if parameter.device != example.device:
        raise ValueError(f"example must be on {parameter.device} as the model is, got {example.device}")
    if not example.isfinite().all():
        raise ValueError("the example holds NaN or infinite pixels")
    return GraphedNetwork(model.fold().eval(), example)


def _forward(folded: Network, image: Tensor) -> Tensor:
    """The image's kind of tensor out of a folded network in eval mode."""
    parameter = next(folded.parameters())
    batch = image if image.dim() == 4 else image.unsqueeze(0)
    result = folded(batch.to(parameter.device, parameter.dtype)).to(image.device, image.dtype)
    return result if image.dim() == 4 else result[0]
