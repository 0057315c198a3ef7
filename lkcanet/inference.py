"""Scene in, super-resolved scene out."""

from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from . import _graphs
from ._optional import require
from .models import LKCANet

if TYPE_CHECKING:
    import numpy as np

    from .data.scenes import Scene

__all__ = ["GraphedNetwork", "graphed", "super_resolve"]

Image = TypeVar("Image", "Scene", Tensor, "np.ndarray")


def super_resolve(model: LKCANet, image: Image) -> Image:
    """Enlarge a whole image with a network, `model.scale` times in both directions.

    The image goes through as one piece: the network's channel attention averages over all of it, so tiles would give
    another result. Weight normalisation is folded away first, in a copy; `model` itself keeps its weights and its mode.

    Args:
        model: any mode, on any device.
        image: a `Scene`; or a floating tensor or array, (N, B, H, W) or (B, H, W), already divided by its peak.

    Returns:
        The kind that was given: a `Scene` as `Scene.enlarged` makes it, a tensor on
        the given one's device, or an array; in its units (normalised) and dtype, not clipped.

    Raises:
        TypeError: another kind of image, or one that is not floating.
        ValueError: another number of axes or bands than the network takes, an empty image, NaN or infinite pixels.
    """
    if isinstance(image, Tensor):
        return _run(model, image)
    np = require("numpy", extra="io")
    if isinstance(image, np.ndarray):
        if image.dtype.kind != "f":
            raise TypeError(f"image must be floating, got {image.dtype}: divide counts by their peak first")
        array: Any = _run(model, torch.tensor(image)).numpy()
        return array
    from .data.scenes import Scene

    if not isinstance(image, Scene):
        raise TypeError(f"image must be a Scene, a tensor or an array, got {type(image).__name__}")
    return image.enlarged(_run(model, image.tensor())[0].numpy(), model.scale)


class GraphedNetwork:
    """What `graphed` returns: a network's forward for one shape, replayed as a CUDA graph.

    Attributes:
        model: the folded copy of the network that was captured, in eval mode.
        input, output: the tensors that a replay reads and writes.
    """

    def __init__(self, model: LKCANet, example: Tensor) -> None:
        self.model = model
        self.input = example.detach().clone(memory_format=torch.contiguous_format)
        with torch.inference_mode():
            self._graph, self.output = _graphs.capture(lambda: _forward(model, self.input), example.device)

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


def graphed(model: LKCANet, example: Tensor) -> GraphedNetwork:
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
        ValueError: it is not on a CUDA device or not on the model's, or it does not fit the network.
    """
    if not isinstance(example, Tensor):
        raise TypeError(f"example must be a tensor, got {type(example).__name__}")
    if example.device.type != "cuda":
        raise ValueError(f"example must be on a CUDA device, got {example.device}")
    _check(model, "example", example)
    parameter = next(model.parameters())
    if parameter.device != example.device:
        raise ValueError(f"example must be on {parameter.device} as the model is, got {example.device}")
    return GraphedNetwork(model.fold().eval(), example)


def _check(model: LKCANet, name: str, image: Tensor) -> None:
    if not image.is_floating_point():
        raise TypeError(f"{name} must be floating, got {image.dtype}: divide counts by their peak first")
    if image.dim() not in (3, 4) or 0 in image.shape[-3:]:
        raise ValueError(f"{name} must be (N, B, H, W) or (B, H, W) with pixels, got shape {tuple(image.shape)}")
    if image.shape[-3] != model.bands:
        raise ValueError(f"the network takes {model.bands} bands, the {name} has {image.shape[-3]}")
    if not image.isfinite().all():
        raise ValueError(f"the {name} holds NaN or infinite pixels")


def _forward(folded: LKCANet, image: Tensor) -> Tensor:
    """The image's kind of tensor out of a folded network in eval mode."""
    parameter = next(folded.parameters())
    batch = image if image.dim() == 4 else image.unsqueeze(0)
    result = folded(batch.to(parameter.device, parameter.dtype)).to(image.device, image.dtype)
    return result if image.dim() == 4 else result[0]


def _run(model: LKCANet, image: Tensor) -> Tensor:
    _check(model, "image", image)
    # a folded copy of its own: eval mode and removed parametrizations never touch the caller's network
    folded = model.fold().eval()
    with torch.inference_mode():
        result = _forward(folded, image)
    return result.clone()  # a plain tensor: one of inference mode could not be used in training later
