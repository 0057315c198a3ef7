"""`lkca export`."""

from pathlib import Path
from typing import Annotated

import typer

from . import _shared as shared


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help=shared.TRAINED)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The ONNX file: .onnx.")],
    size: Annotated[
        str | None,
        typer.Option(metavar="ROWS,COLUMNS", help="Fix the low-resolution image's; any size if left out."),
    ] = None,
    opset: Annotated[int, typer.Option(help="Version of ONNX's operators, 13 to 20.")] = 17,
    check: Annotated[bool, typer.Option(help="Compare onnxruntime's images with PyTorch's in float64.")] = True,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Write a network as ONNX, for runtimes without PyTorch: float32, weight normalisation folded, any batch.

    Its input is an image (N, bands, rows, columns) divided by the peak that the file's metadata names; a fusion network
    has a second one, the multispectral image.

    Example: lkca export run/best.safetensors net.onnx
    """
    from lkcanet.deploy.export import export_onnx

    shared.check_output(out, (".onnx",))
    shared.set_threads(threads)
    rows, columns = (None, None) if size is None else shared.parse_pair(size, "--size")
    model, record = shared.load_checkpoint(checkpoint)
    metadata = {"peak": record.peak, "wavelengths": record.wavelengths}
    report = export_onnx(model, out, height=rows, width=columns, opset=opset, metadata=metadata, check=check)
    if json:
        shared.print_json({**vars(report), "scale": model.scale, "metadata": metadata})
        return
    shape = ", ".join(map(str, report.inputs))
    print(f"{out}: ({shape}) to ({', '.join(map(str, report.outputs))}), opset {opset}, {report.size / 1e6:.1f} MB")
    if check:
        sizes = ", ".join("x".join(map(str, shape)) for shape in report.checked)
        print(f"checked in onnxruntime on {sizes}: largest error {report.error:.2g}, allowed {report.allowed:.2g}")
    else:
        shared.note("note: not compared with PyTorch")
