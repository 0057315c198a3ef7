"""Scene in, super-resolved scene out."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from ..common.optional import require
from ..models import Network
from . import graphs, strips, tiles
from .advice import Shortage, shortage
from .footprint import Memory, memory, reach

if TYPE_CHECKING:
    import numpy as np

    from ..data.scenes import Scene

__all__ = ["GraphedNetwork", "Memory", "Shortage", "graphed", "memory", "reach", "shortage", "super_resolve"]

Progress = Callable[[float, str], None]
Image = TypeVar("Image", "Scene", Tensor, "np.ndarray")


def super_resolve(
    model: Network,
    image: Image,
    *,
    msi: Image | None = None,
    out: str | os.PathLike[str] | None = None,
    tile: tuple[int, int] | None = None,
    overlap: int | None = None,
    progress: Progress | None = None,
) -> Image:
    """Enlarge a whole image with a network, `model.scale` times in both directions.

    By default the image goes through as one piece, which is exact: LKCA-Net's channel attention averages over all of
    it. Only its output is made in strips of rows, bit for bit those of the whole, and written where it belongs.
    `memory` says beforehand what that takes. Weight normalisation is folded away first, in a copy; `model` itself keeps
    its weights and its mode. A network that is folded and in eval mode already is used as it is.

    With `tile` the network sees one tile after the other, for images that do not fit the memory otherwise. The result
    is **another one**: channel attention then averages over a tile instead of the scene, and a tile lacks what lies
    outside it (`reach` of the network). Neighbouring tiles share `overlap` pixels and are blended over the middle half
    of it, by weights that add up to 1; where each channel's gate were constant and a quarter of `overlap` at least the
    reach, the result would be that of the whole image.

    A network that is local altogether (VDSR-LR, 3D-FCNN-LR, or whatever names its receptive field) is run on strips of
    the image, with as many rows around them as it depends on: the same up to rounding, since torch's convs may add up
    in another order for other sizes, and bit for bit where the output takes 128 MiB or less, which is one strip. What
    sees the whole image in other ways (EDLGFS, CSAKD) runs as a whole; `lkcanet.models.Capabilities` says what a
    network of one's own may bring.

    Args:
        model: any mode, on any device.
        image: a `Scene`; or a floating tensor or array, (N, B, H, W) or (B, H, W), already divided by its peak.
        msi: the multispectral image that a network which fuses takes besides, of the same kind as `image` and
            `model.scale` times its rows and columns, divided by its own peak.
        out: an .npy file, in the layout of `lkcanet.data.write_scene`, into which a scene's result is written as it is
            made, so that it never is in memory as a whole. The file appears under its name only when complete; one that
            is there already is replaced then.
        tile: (rows, columns) of a tile, in low-resolution pixels, its overlap included.
        overlap: low-resolution pixels that neighbouring tiles share at least, less than a tile's sides. By default 32,
            about as far as one block reaches (the first of many, and the one through which a pixel's nearest
            surroundings act), or a quarter of the tile's shorter side where that is less.
        progress: called as progress(share, what) from time to time, with the share that is done, from 0 to 1, and
            words for what is next. An exception that it raises ends the work.

    Returns:
        The kind that was given: a `Scene` as `Scene.enlarged` makes it (with `out` its pixels are a memory map of the
        file, copied on write), a tensor on the given one's device, or an array; in its units (normalised) and dtype,
        not clipped.

    Raises:
        TypeError: another kind of image, one that is not floating, or an `msi` of another kind; `out` for another kind
            than a scene.
        ValueError: another number of axes or bands than the network takes, an empty image, NaN or infinite pixels, an
            MSI that is missing, not taken or of another size, a tile or overlap that is none, `out` that is not an .npy
            file.
        FileNotFoundError: the folder of `out` does not exist.
        OSError: `out` can't be written; a disk that is too small is noticed before the work.
    """
    plan = None if tile is None else tiles.check(tile, overlap)
    if tile is None and overlap is not None:
        raise ValueError(f"overlap goes with tile only, got overlap {overlap!r} and no tile")
    if msi is not None and not isinstance(msi, type(image)):
        raise TypeError(f"msi must be a {type(image).__name__} as the image is, got {type(msi).__name__}")
    work = _Work(model, plan, progress or (lambda share, what: None))
    if isinstance(image, Tensor):
        _check_no_file(out, image)
        assert msi is None or isinstance(msi, Tensor)
        return work.tensor(image, msi)
    np = require("numpy", extra="io")
    if isinstance(image, np.ndarray):
        _check_no_file(out, image)
        if image.dtype.kind != "f":
            raise TypeError(f"image must be floating, got {image.dtype}: divide counts by their peak first")
        # torch warns of arrays that can't be written to, and can't wrap some strides
        given = [torch.from_numpy(np.require(a, requirements=["C", "W"])) for a in (image, msi) if a is not None]
        array: Any = work.tensor(*given).numpy()
        return array
    from ..data.scenes import Scene

    if not isinstance(image, Scene):
        raise TypeError(f"image must be a Scene, a tensor or an array, got {type(image).__name__}")
    assert msi is None or isinstance(msi, Scene)
    lowres, sharp = image.tensor(), None if msi is None else msi.tensor()
    if out is None:
        return image.enlarged(work.tensor(lowres, sharp)[0].numpy(), model.scale)
    _check(model, "image", lowres)
    _check_msi(model, lowres, sharp)
    from .mapped import mapped_npy

    with mapped_npy(out, image, model.scale) as mapped:
        work.into(lowres, torch.from_numpy(mapped.pixels).unsqueeze(0), sharp, mapped.release)
    return mapped.scene()


def _check_no_file(out: Any, image: Any) -> None:
    if out is not None:
        raise TypeError(f"out goes with a Scene, whose facts the file holds; image is a {type(image).__name__}")


class _Work:
    """A folded network, how the image is cut, and whom to tell."""

    def __init__(self, model: Network, plan: tuple[int, int, int] | None, progress: Progress) -> None:
        self.model, self.plan, self.progress = model, plan, progress

    def tensor(self, image: Tensor, msi: Tensor | None = None) -> Tensor:
        """The image's kind of tensor."""
        _check(self.model, "image", image)
        _check_msi(self.model, image, msi)
        batch = image if image.dim() == 4 else image.unsqueeze(0)
        sharp = msi if msi is None or msi.dim() == 4 else msi.unsqueeze(0)
        scale = self.model.scale
        # not made in inference mode: such a tensor could not be used in training later. Tiles are added up; otherwise
        # no page of it is touched before the blocks' memory is free again
        new = batch.new_empty if self.plan is None else batch.new_zeros
        result = new((*batch.shape[:2], scale * batch.shape[2], scale * batch.shape[3]))
        self.into(batch, result, sharp)
        return result if image.dim() == 4 else result[0]

    def into(self, image: Tensor, out: Tensor, msi: Tensor | None, release: Callable[[], None] | None = None) -> None:
        """Write the result of (N, B, H, W) into `out`, which is zero where tiles are added up.

        With `release`, `out` is a map of a file: it is written band by band, and `release` called after each.
        """
        folded = _folded(self.model)
        parameter = next(folded.parameters())

        def put(row: int, strip: Tensor) -> None:
            strips.write(Tensor.copy_, out[:, :, row : row + strip.shape[2]], strip, release)

        with torch.inference_mode():
            if self.plan is None:
                sharp = None if msi is None else msi.to(parameter.device, parameter.dtype)
                strips.forward_in_strips(folded, image.to(parameter.device, parameter.dtype), put, self.progress, sharp)
            else:
                tiles.forward_in_tiles(folded, image, out, *self.plan, self.progress, release, msi)


def _folded(model: Network) -> Network:
    """A folded copy in eval mode: what is done to it never touches the caller's network. One that is so already
    needs no copy."""
    plain = not any(parametrize.is_parametrized(module) for module in model.modules())
    return model if plain and not any(module.training for module in model.modules()) else model.fold().eval()


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
            self._graph, self.output = graphs.capture(lambda: _forward(model, self.input), example.device)

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
    _check(model, "example", example)
    _check_msi(model, example, None)
    parameter = next(model.parameters())
    if parameter.device != example.device:
        raise ValueError(f"example must be on {parameter.device} as the model is, got {example.device}")
    if not example.isfinite().all():
        raise ValueError("the example holds NaN or infinite pixels")
    return GraphedNetwork(model.fold().eval(), example)


def _check(model: Network, name: str, image: Tensor) -> None:
    if not image.is_floating_point():
        raise TypeError(f"{name} must be floating, got {image.dtype}: divide counts by their peak first")
    if image.dim() not in (3, 4) or 0 in image.shape[-3:]:
        raise ValueError(f"{name} must be (N, B, H, W) or (B, H, W) with pixels, got shape {tuple(image.shape)}")
    if image.shape[-3] != model.bands:
        raise ValueError(f"the network takes {model.bands} bands, the {name} has {image.shape[-3]}")


def _check_msi(model: Network, image: Tensor, msi: Tensor | None) -> None:
    if msi is None:
        if model.msi_bands:
            raise ValueError(f"the network fuses an MSI of {model.msi_bands} bands with the image: give msi")
        return
    if not model.msi_bands:
        raise ValueError(f"the network ({model.kind}) takes no MSI")
    if not msi.is_floating_point():
        raise TypeError(f"msi must be floating, got {msi.dtype}: divide counts by their peak first")
    rows, columns = (model.scale * length for length in image.shape[-2:])
    expected = (*image.shape[:-3], model.msi_bands, rows, columns)
    if msi.shape != expected:
        raise ValueError(
            f"msi must be of shape {expected}: {model.msi_bands} bands, {model.scale} times the image's rows and "
            f"columns; got {tuple(msi.shape)}"
        )


def _forward(folded: Network, image: Tensor) -> Tensor:
    """The image's kind of tensor out of a folded network in eval mode."""
    parameter = next(folded.parameters())
    batch = image if image.dim() == 4 else image.unsqueeze(0)
    result = folded(batch.to(parameter.device, parameter.dtype)).to(image.device, image.dtype)
    return result if image.dim() == 4 else result[0]
