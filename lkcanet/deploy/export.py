"""Networks to ONNX, for runtimes without PyTorch."""

import copy
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import lkops

from ..common.files import atomic_path
from ..common.optional import require
from ..models import Network
from ..models.capabilities import onnx_form_of
from ..models.registry import named_kind
from .agreement import agreed, check_finite, worst_of

__all__ = ["OnnxReport", "export_onnx"]

OPSETS = range(13, 21)
_FORMAT = "lkcanet-onnx-1"
_INPUTS = ["lowres", "msi"]
_EXAMPLE = (2, 6, 7)  # batch, rows and columns of the image that is traced where they are left open
# what a file with open sizes is compared on: one pixel, one row, one column, and more than a 7x7 of dilation 7
_SHAPES = ((1, 1, 1), (2, 1, 9), (1, 8, 1), (3, 6, 5), (1, 31, 46))


@dataclass(frozen=True)
class OnnxReport:
    """What `export_onnx` wrote.

    Attributes:
        path: the file.
        opset: the version of ONNX's operators.
        inputs: the shape of the input "lowres"; names stand for sizes that are open. That of "msi" follows from it.
        outputs: the same of the output "image".
        size: bytes.
        checked: the shapes of "lowres" on which onnxruntime agreed with PyTorch; none where the check was left out.
        error: the largest difference from float64 there, absolute.
        allowed: what that may be: the error of float32 in PyTorch, twice, and four roundings of the largest value. Of
            the shape that came closest to its limit.
    """

    path: Path
    opset: int
    inputs: tuple[int | str, ...]
    outputs: tuple[int | str, ...]
    size: int
    checked: tuple[tuple[int, ...], ...]
    error: float
    allowed: float


def export_onnx(
    model: Network,
    path: str | Path,
    *,
    height: int | None = None,
    width: int | None = None,
    opset: int = 17,
    metadata: Mapping[str, Any] | None = None,
    check: bool = True,
) -> OnnxReport:
    """Write a network as an ONNX file of float32, with weight normalisation folded, through the reference operators.

    The graph has one input, "lowres" (N, B, H, W), divided by the peak as for PyTorch, and one output, "image"
    (N, B, r H, r W), not clipped. A network that fuses has a second input, "msi" (N, b, r H, r W). It holds standard
    operators only. N is open; so are H and W unless they are given. An image of another size than a fixed one, or of
    other bands, is refused by the runtime. Empty batches of LKCA-Net are right in the graph, but onnxruntime refuses
    them unless it runs with ORT_ENABLE_BASIC optimisation or less.

    The file's metadata properties hold `format`, `bands`, `scale` and `config` (the constructor's arguments, JSON), for
    other kinds than lkcanet `kind`, for networks that fuse `msi_bands`, and what `metadata` adds.

    What is traced is a folded copy of the network, or what its `capabilities` name. EDLGFS's attention is spelled out
    there: its map of HW x HW values is stored, unlike in PyTorch.

    Args:
        model: any mode, on any device, of any floating dtype; left as it is.
        path: ends in .onnx.
        height, width: of the low-resolution image, both or neither.
        opset: 13 to 20.
        metadata: more properties, such as peak and wavelengths: texts as they are, others as JSON; None is left out.
        check: have onnx look the file through, and compare onnxruntime's images with PyTorch's in float64: on five
            random ones of other sizes and batches than the traced, or on two of the given size. The error may be
            twice that of PyTorch in float32, and four roundings of the largest value: 2 max|eager - exact| +
            4 eps max|exact|.

    Raises:
        TypeError: `model` is no network, or a number is no int.
        ValueError: a wrong suffix, size or opset, one of height and width without the other; NaN or infinite weights;
            metadata that names one of the properties above or can't be JSON; `lkcanet.models.Lacking`: the network says
            that it can't be written as ONNX.
        ModuleNotFoundError: onnx, or for the check onnxruntime, is not installed.
        RuntimeError: torch can't export the network, the file is no valid ONNX or its images differ. Nothing is left
            under `path` that was not there.
        OSError: the file can't be written.
    """
    path = Path(path)
    _check_arguments(model, path, height, width, opset)
    properties = _properties(model, metadata or {})
    onnx = require("onnx", extra="onnx")
    if check:
        require("onnxruntime", extra="onnx")
    folded = onnx_form_of(model).eval().requires_grad_(False).to("cpu", torch.float32)
    n, rows, columns = _EXAMPLE
    examples = _images(model, (n, height or rows, width or columns), torch.zeros)
    open_axes = {0: "batch"} if height else {0: "batch", 2: "height", 3: "width"}
    names = _INPUTS[: len(examples)]
    with atomic_path(path) as temporary:
        with lkops.backend("reference"), torch.no_grad(), warnings.catch_warnings():
            # checks of shapes in Python are traced as what they are, constants; the tracing exporter needs no further
            # package and leaves the sizes open, where the one that follows it needs onnxscript
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                torch.onnx.export(
                    folded, examples, str(temporary), dynamo=False, opset_version=opset, input_names=names,
                    output_names=["image"],
                    dynamic_axes={name: _enlarged(open_axes, index * model.scale) for index, name in enumerate(names)},
                )  # fmt: skip
            except torch.onnx.errors.OnnxExporterError as refused:
                reason = str(refused).strip().splitlines()[0][:300]
                raise RuntimeError(f"torch can't write the network ({model.kind}) as ONNX: {reason}") from refused
        graph = onnx.load(str(temporary))
        enlarged: list[Any] = [f"{model.scale}*{name}" for name in ("height", "width")]
        if height and width:
            enlarged = [model.scale * height, model.scale * width]
        shape = ("batch", model.bands, *enlarged)  # the exporter only says that there are four sizes
        graph.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape))
        onnx.helper.set_model_props(graph, properties)
        graph.producer_name, graph.producer_version = "lkcanet", lkops.__version__
        onnx.save(graph, str(temporary))
        shapes: tuple[tuple[int, ...], ...] = ()
        error = allowed = 0.0
        if check:
            sizes = ((1, height, width), (2, height, width)) if height and width else _SHAPES
            shapes = tuple((size[0], model.bands, *size[1:]) for size in sizes)
            error, allowed = _compare(temporary, model, folded, sizes)
        size = temporary.stat().st_size
    inputs, outputs = (_shape(value) for value in (graph.graph.input[0], graph.graph.output[0]))
    return OnnxReport(path, opset, inputs, outputs, size, shapes, error, allowed)


def _images(model: Network, size: Sequence[int], make: Callable[..., Tensor], **options: Any) -> tuple[Tensor, ...]:
    """What the network takes, of a low-resolution size (N, H, W)."""
    n, rows, columns = size
    images: tuple[Tensor, ...] = (make(n, model.bands, rows, columns, **options),)
    if model.msi_bands:
        images += (make(n, model.msi_bands, model.scale * rows, model.scale * columns, **options),)
    return images


def _enlarged(axes: Mapping[int, str], scale: int) -> dict[int, str]:
    """The names of open axes, of an image so many times larger; 0 for the low-resolution image itself."""
    return {axis: f"{scale}*{name}" if scale and axis else name for axis, name in axes.items()}


def _check_arguments(model: Network, path: Path, height: int | None, width: int | None, opset: int) -> None:
    missing = [name for name in ("kind", "config", "bands", "scale", "fold") if not hasattr(model, name)]
    if missing:
        raise TypeError(f"model must be a network as lkcanet.models.Network is, got {type(model).__name__}")
    if path.suffix != ".onnx":
        raise ValueError(f"path must end in .onnx, got {str(path)!r}")
    for name, number in (("height", height), ("width", width), ("opset", opset)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
            raise TypeError(f"{name} must be a whole number, got {number!r}")
    if (height is None) != (width is None):
        raise ValueError(f"height and width go together, got {height} and {width}")
    if height is not None and width is not None and min(height, width) < 1:
        raise ValueError(f"height and width must be 1 or more, got {height} and {width}")
    if opset not in OPSETS:
        raise ValueError(f"opset must be {OPSETS[0]} to {OPSETS[-1]}, got {opset}")
    check_finite(model)


def _properties(model: Network, metadata: Mapping[str, Any]) -> dict[str, str]:
    own = {
        "format": _FORMAT,
        "bands": str(model.bands),
        "scale": str(model.scale),
        "config": json.dumps(model.config),
        **named_kind(model),
        **({"msi_bands": str(model.msi_bands)} if model.msi_bands else {}),
    }
    if taken := sorted(set(own) & set(metadata)):
        raise ValueError(f"metadata must not name {', '.join(taken)}, which the file says itself")
    for name, value in metadata.items():
        if value is None:
            continue
        try:
            own[str(name)] = value if isinstance(value, str) else json.dumps(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"metadata[{name!r}] can't be written as JSON: {error}") from error
    return own


def _compare(path: Path, model: Network, folded: nn.Module, sizes: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Look the file through and run it; the error, and what is allowed, of the shape that came closest to its limit."""
    onnx, runtime = require("onnx", extra="onnx"), require("onnxruntime", extra="onnx")
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise RuntimeError(f"the export is not valid ONNX: {str(error).splitlines()[0]}") from error
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised; it need not be printed, too
    options.intra_op_num_threads = torch.get_num_threads()
    exact = copy.deepcopy(folded).double()
    generator = torch.Generator().manual_seed(0)
    found = []
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base class of their own
        raise RuntimeError(f"onnxruntime can't load the export: {str(error).splitlines()[0]}") from error
    for size in sizes:
        images = _images(model, size, torch.rand, generator=generator)
        shape = tuple(images[0].shape)
        try:
            given = {name: image.numpy() for name, image in zip(_INPUTS, images, strict=False)}
            result = torch.from_numpy(session.run(None, given)[0])
        except Exception as error:
            raise RuntimeError(f"onnxruntime can't run the export on {shape}: {error}") from error
        with torch.inference_mode(), lkops.backend("reference"):
            truth, eager = exact(*(image.double() for image in images)), folded(*images)
        found.append(agreed("onnxruntime", shape, result, eager, truth))
    return worst_of(found)


def _shape(value: Any) -> tuple[int | str, ...]:
    dimensions = value.type.tensor_type.shape.dim
    return tuple(d.dim_param if d.HasField("dim_param") else d.dim_value for d in dimensions)
