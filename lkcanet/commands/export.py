"""`lkca export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _shared as shared
from ._reading import Reading

if TYPE_CHECKING:
    from torch import Tensor

    from lkcanet.data import TrainingRecord
    from lkcanet.deploy import EdgeReport, OnnxReport
    from lkcanet.models import Network


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help=shared.TRAINED)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file: .onnx, or .lkops for lkedge.")],
    size: Annotated[
        str | None,
        typer.Option(metavar="ROWS,COLUMNS", help="Fix the low-resolution image's, .onnx; any size if left out."),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="Version of ONNX's operators, 13 to 20; default: 17.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Of weights and features, .lkops: float32 (default) or bfloat16.")
    ] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Products of 8-bit whole numbers, .lkops; what else there is, bfloat16."),
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="SCENE", help="A scene, to measure on it what --int8 loses against float32."),
    ] = None,
    check: Annotated[
        bool, typer.Option(help="Compare images of onnxruntime, or lkedge, with PyTorch's in float64.")
    ] = True,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Write a network for runtimes without PyTorch, weight normalisation folded, any batch: as ONNX, float32, or as a
    file of lkedge.

    Its input is an image (N, bands, rows, columns) divided by the peak that the file's metadata names; a fusion network
    has a second one, the multispectral image, and is written as ONNX only.

    Example: lkca export run/best.safetensors net.onnx

    --int8: weights have a scale for each output; scales of activations are found at run time, so that nothing is fitted
    to the scene of --calibration, whose low-resolution image is made by bicubic degradation.

    Example: lkca export run/best.safetensors net.lkops

    Example: lkca export run/best.safetensors net.lkops --int8 --calibration scene.mat
    """
    shared.check_output(out, (".onnx", ".lkops"))
    others = (
        {"--size": size, "--opset": opset}
        if out.suffix.lower() == ".lkops"
        else {"--dtype": dtype, "--int8": int8 or None, "--calibration": calibration}
    )
    if given := [option for option, value in others.items() if value is not None]:
        raise ValueError(f"{' and '.join(given)}: not of a file that ends in {out.suffix}")
    if int8 and dtype is not None:
        raise ValueError("--int8 and --dtype: give one of them")
    if calibration is not None and not int8:
        raise ValueError("--calibration needs --int8")
    shared.set_threads(threads)
    model, record = shared.load_checkpoint(checkpoint)
    metadata = {"peak": record.peak, "wavelengths": record.wavelengths}
    if out.suffix.lower() == ".lkops":
        scene = None if calibration is None else _pixels(calibration, model, record)
        _edge(model, out, "int8" if int8 else dtype or "float32", metadata, check, json, scene)
    else:
        _onnx(model, out, size, 17 if opset is None else opset, metadata, check, json)


def _onnx(
    model: "Network", out: Path, size: str | None, opset: int, metadata: dict[str, Any], check: bool, json: bool
) -> None:
    from lkcanet.deploy.export import export_onnx

    rows, columns = (None, None) if size is None else shared.parse_pair(size, "--size")
    report = export_onnx(model, out, height=rows, width=columns, opset=opset, metadata=metadata, check=check)
    if json:
        shared.print_json({**vars(report), "scale": model.scale, "metadata": metadata})
        return
    shape = ", ".join(map(str, report.inputs))
    print(f"{out}: ({shape}) to ({', '.join(map(str, report.outputs))}), opset {opset}, {report.size / 1e6:.1f} MB")
    _say_checked("onnxruntime", report, check)


def _pixels(path: Path, model: "Network", record: "TrainingRecord") -> "Tensor":
    """A scene's, cropped so that the scale divides its sides."""
    import torch

    pixels = Reading().scene_for(path, model, record).pixels
    rows, columns = (side // model.scale * model.scale for side in pixels.shape[-2:])
    return torch.as_tensor(pixels)[:, :rows, :columns]


def _edge(
    model: "Network",
    out: Path,
    dtype: str,
    metadata: dict[str, Any],
    check: bool,
    json: bool,
    scene: "Tensor | None",
) -> None:
    from lkcanet.deploy.edge import export_edge

    report = export_edge(model, out, dtype=dtype, metadata=metadata, check=check, scene=scene)
    if json:
        loss = None if report.loss is None else vars(report.loss)
        shared.print_json({**vars(report), "loss": loss, "scale": model.scale, "metadata": metadata})
        return
    print(
        f"{out}: {model.bands} bands, x{model.scale}, {report.operators} operators, {dtype}, {report.size / 1e6:.1f} MB"
    )
    if dtype == "int8":
        _say_loss(report, scene is not None)
        return
    if check and not report.checked:
        shared.note("note: lkedge is not installed (pip install ./edge)")
    _say_checked("lkedge", report, bool(report.checked))


def _say_loss(report: "EdgeReport", asked: bool) -> None:
    loss = report.loss
    if loss is None:
        missing = "lkedge is not installed (pip install ./edge)" if asked else "no --calibration"
        shared.note(f"note: loss against float32 not measured: {missing}")
        return
    print(f"against the scene: PSNR {loss.psnr:.3f} dB, float32 {loss.psnr_float32:.3f} dB", end="")
    print(f" ({loss.psnr - loss.psnr_float32:+.3f})", end="")
    print(f"; SAM {loss.sam:.3f} degrees, float32 {loss.sam_float32:.3f} ({loss.sam - loss.sam_float32:+.3f})")
    print(f"int8 against float32: PSNR {loss.psnr_between:.2f} dB, SAM {loss.sam_between:.3f} degrees")


def _say_checked(runtime: str, report: "OnnxReport | EdgeReport", compared: bool) -> None:
    if not compared:
        shared.note("note: not compared with PyTorch")
        return
    sizes = ", ".join("x".join(map(str, shape)) for shape in report.checked)
    print(f"checked in {runtime} on {sizes}: largest error {report.error:.2g}, allowed {report.allowed:.2g}")
