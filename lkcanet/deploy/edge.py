"""Networks for the runtime without PyTorch: what `lkedge` and csrc/runtime/lkops.h run."""

import copy
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lkops

from ..common.files import atomic_path
from ..data.degrade import bicubic_downsample
from ..evaluation.metrics import mpsnr, sam
from ..models import Network
from ..models.capabilities import chain_of
from ..models.chain import Link
from .agreement import agreed, check_finite, worst_of
from .edge_file import DTYPES, write_network

__all__ = ["EdgeReport", "Int8Loss", "export_edge", "int8_loss"]

_SHAPES = ((1, 1, 1), (2, 3, 5), (1, 21, 17))


@dataclass(frozen=True)
class Int8Loss:
    """What an int8 file loses on a scene, whose low-resolution image is made by bicubic degradation.

    Attributes:
        psnr, sam: mean PSNR over the bands (dB) and spectral angle (degrees) of the file's image against the scene.
        psnr_float32, sam_float32: of the network's image in float32 against the scene.
        psnr_between, sam_between: of the two images against one another.
    """

    psnr: float
    sam: float
    psnr_float32: float
    sam_float32: float
    psnr_between: float
    sam_between: float


@dataclass(frozen=True)
class EdgeReport:
    """What `export_edge` wrote.

    Attributes:
        path: the file.
        dtype: of weights and features.
        operators: how many.
        size: bytes.
        checked: the shapes of low-resolution images on which the runtime agreed with PyTorch; none where it was not
            compared.
        error: the largest difference from float64 there, absolute; for bfloat16 of what the network adds to the bicubic
            image, rounded.
        allowed: what that may be, of the shape that came closest to its limit.
        loss: of an int8 file, on the scene that was given; None where lkedge is not installed.
    """

    path: Path
    dtype: str
    operators: int
    size: int
    checked: tuple[tuple[int, ...], ...] = ()
    error: float = 0.0
    allowed: float = 0.0
    loss: Int8Loss | None = None


def export_edge(
    model: Network,
    path: str | Path,
    *,
    dtype: str = "float32",
    metadata: Mapping[str, Any] | None = None,
    check: bool = True,
    scene: Tensor | None = None,
) -> EdgeReport:
    """Write a network, weight normalisation folded, as a file that the runtime without PyTorch maps and runs.

    Any batch and size; images are float32, divided by the peak as for PyTorch, and not clipped. Networks that are
    chains of lkops' operators have such a file: LKCA-Net, LKCA-LR, compressed ones, LKCA-Res.

    Args:
        model: in any mode, on any device, of any floating dtype; left as it is.
        path: ends in .lkops.
        dtype: "float32"; "bfloat16": weights and features are rounded as under autocast, images are not; or "int8":
            bfloat16, but the products of the blocks' 1x1 and grouped convs and of the upsampler are those of whole
            numbers of 8 bits. Weights have a scale for each output; those of their inputs are found at run time, for
            each pixel, and for each channel of the grouped convs: nothing is fitted to any scene.
        metadata: what the file tells besides kind and config, such as peak and wavelengths; None is left out.
        check: where the package lkedge is installed, compare its images with PyTorch's in float64. Not those of an
            int8 file: what that loses is measured on a scene.
        scene: (B, H, W), divided by its peak, H and W multiples of the scale: measure on it what an int8 file loses.

    Raises:
        TypeError: `model` is no network.
        ValueError: a wrong suffix or dtype; NaN or infinite weights; metadata that names kind or config or can't be
            JSON; `lkcanet.models.Lacking`: the network is no such chain.
        RuntimeError: the runtime's images differ. Nothing is left under `path` that was not there.
        OSError: the file can't be written.
    """
    path = Path(path)
    if not isinstance(model, Network):
        raise TypeError(f"model must be a network as lkcanet.models.Network is, got {type(model).__name__}")
    if path.suffix != ".lkops":
        raise ValueError(f"path must end in .lkops, got {str(path)!r}")
    if dtype not in (*DTYPES, "int8"):
        raise ValueError(f"dtype must be {', '.join(DTYPES)} or int8, got {dtype!r}")
    if scene is not None:
        _check_scene(scene, model, dtype)
    check_finite(model)
    folded = model.fold().eval().requires_grad_(False).to("cpu", torch.float32)
    links = chain_of(folded)
    told = {name: value for name, value in (metadata or {}).items() if value is not None}
    if taken := sorted({"kind", "config"} & told.keys()):
        raise ValueError(f"metadata must not name {', '.join(taken)}, which the file says itself")
    told = {"kind": folded.kind, "config": folded.config, **told}
    runtime = _lkedge() if check or scene is not None else None
    shapes: tuple[tuple[int, ...], ...] = ()
    error = allowed = 0.0
    loss = None
    with atomic_path(path) as temporary:
        size = write_network(temporary, links, model.bands, model.scale, dtype, told)
        if runtime is not None and scene is not None:
            loss = int8_loss(runtime.load(temporary), folded, scene)
        elif runtime is not None and dtype != "int8":
            shapes = tuple((n, model.bands, rows, columns) for n, rows, columns in _SHAPES)
            error, allowed = _compare(runtime.load(temporary), folded, links[-1], dtype, shapes)
    return EdgeReport(path, dtype, len(links), size, shapes, error, allowed, loss)


def _check_scene(scene: Tensor, model: Network, dtype: str) -> None:
    if dtype != "int8":
        raise ValueError(f"scene: only an int8 file's loss is measured on one, and dtype is {dtype!r}")
    if scene.dim() != 3 or scene.shape[0] != model.bands or not scene.is_floating_point() or 0 in scene.shape:
        raise ValueError(
            f"scene must be floating, ({model.bands}, rows, columns), got {tuple(scene.shape)} of {scene.dtype}"
        )
    if any(side % model.scale for side in scene.shape[1:]):
        raise ValueError(f"scene must have rows and columns that {model.scale} divides, got {tuple(scene.shape[1:])}")


def int8_loss(network: Any, folded: Network, scene: Tensor) -> Int8Loss:
    """What a network of `lkedge` loses against `folded` in float32.

    Args:
        network: what `lkedge.load` returned.
        folded: the network that was exported, float32, on the CPU.
        scene: (B, H, W), as for `export_edge`.
    """
    truth = scene.to("cpu", torch.float32)[None]
    with torch.inference_mode():
        lowres = bicubic_downsample(truth, folded.scale)
        exact = folded(lowres)
    found = torch.from_numpy(network(lowres.numpy()))
    return Int8Loss(
        psnr=mpsnr(found, truth),
        sam=sam(found, truth),
        psnr_float32=mpsnr(exact, truth),
        sam_float32=sam(exact, truth),
        psnr_between=mpsnr(found, exact),
        sam_between=sam(found, exact),
    )


def _lkedge() -> Any:
    """The package, where it is installed: it is built from edge/, and no extra of this one."""
    try:
        return importlib.import_module("lkedge")
    except ModuleNotFoundError as error:
        if error.name != "lkedge":
            raise  # it is there; something that it needs is not
        return None


def _compare(
    network: Any, folded: Network, upsampler: Link, dtype: str, shapes: Sequence[Sequence[int]]
) -> tuple[float, float]:
    """The error, and what is allowed, of the shape that came closest to its limit: by the rule for every result of a
    dtype. What bfloat16 computes is added to an image of float32: it is held as a bfloat16, that image taken away."""
    exact = copy.deepcopy(folded).double()
    module: Any = upsampler.module
    generator = torch.Generator().manual_seed(0)
    found = []
    for shape in shapes:
        image = torch.rand(*shape, generator=generator)
        with torch.inference_mode(), lkops.backend("reference"):
            truth = exact(image.double())
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                eager = folded(image).double()
            ours = torch.from_numpy(network(image.numpy())).double()
            if dtype == "bfloat16" and upsampler.second is not None:
                options = {"scale": module.scale, "cubic_a": module.cubic_a, "border": module.border}
                bicubic = lkops.bicubic_upsample(image.double(), **options)
                ours, eager, truth = ours - bicubic, eager - bicubic, truth - bicubic
        found.append(agreed("the runtime", shape, ours.to(DTYPES[dtype]), eager.to(DTYPES[dtype]), truth))
    return worst_of(found)
