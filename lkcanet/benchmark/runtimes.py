"""Runtimes for inference as a benchmark's providers: OpenVINO, onnxruntime and ncnn. None is needed; one that is not
installed says so. Inputs are shared with them where they allow it, outputs are left where they write them."""

import importlib.util
import io
import struct
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..common.signals import kept_signal_stack


class Unavailable(Exception):
    """A provider can't run here; says why."""


class Runner:
    """One provider's problem, ready to be called. `context` is entered around all that it runs."""

    def untimed(self) -> Any:
        """What is not timed: the forward of a backward. Its result goes to `run`."""

    def run(self, state: Any) -> Any:
        """What is timed."""
        raise NotImplementedError

    def results(self) -> list[Tensor]:
        """Outputs, and in all modes but "forward" the gradients of activations and parameters."""
        raise NotImplementedError


def _needs(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise Unavailable(f"{package} is not installed: pip install lkops[{extra}]")


def openvino_model(module: nn.Module, activations: Sequence[Tensor]) -> Any:
    """The module as OpenVINO converts it for inputs of these shapes; raises Unavailable where it is not installed."""
    _needs("openvino", "openvino")
    import openvino

    with torch.no_grad():
        inputs = tuple(t.detach() for t in activations)
        return openvino.convert_model(module, example_input=inputs, input=[list(t.shape) for t in activations])


class OpenVINORunner(Runner):
    """The eager module, converted. Inputs and outputs share memory with the caller, which is the fastest way."""

    def __init__(self, module: nn.Module, activations: Sequence[Tensor], precision: str, threads: int) -> None:
        model = openvino_model(module, activations)
        import openvino

        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        with kept_signal_stack():
            self.request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
        self.inputs = [t.detach().numpy() for t in activations]

    def run(self, state: Any) -> Any:
        return self.request.infer(self.inputs, share_inputs=True, share_outputs=True)

    def results(self) -> list[Tensor]:
        return [torch.from_numpy(output.copy()) for output in self.run(None).values()]


def onnx_bytes(module: nn.Module, activations: Sequence[Tensor], opset: int = 17) -> bytes:
    """The module as a file of ONNX; raises Unavailable where the package onnx is not installed."""
    _needs("onnx", "onnx")
    file = io.BytesIO()
    inputs = tuple(t.detach().contiguous() for t in activations)
    with warnings.catch_warnings(), torch.no_grad():
        # the tracing exporter needs no further package; it warns that it is not the newest, and of traced sizes
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), inputs, file, dynamo=False, opset_version=opset)  # type: ignore[arg-type]
    return file.getvalue()


class OnnxRuntimeRunner(Runner):
    """The eager module as ONNX, in onnxruntime's CPU provider; inputs are bound once."""

    def __init__(self, module: nn.Module, activations: Sequence[Tensor], threads: int) -> None:
        _needs("onnxruntime", "onnx")
        import onnxruntime

        model = onnx_bytes(module, activations)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        # its threads would spin on while the next provider is timed
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()
        names = [each.name for each in self.session.get_inputs()]
        self.inputs = [t.detach().contiguous().numpy() for t in activations]  # bound without a copy: they must live
        for name, array in zip(names, self.inputs, strict=True):
            self.binding.bind_cpu_input(name, array)
        for each in self.session.get_outputs():
            self.binding.bind_output(each.name, "cpu")

    def run(self, state: Any) -> Any:
        return self.session.run_with_iobinding(self.binding)

    def results(self) -> list[Tensor]:
        self.run(None)
        return [torch.from_numpy(output.copy()) for output in self.binding.copy_outputs_to_cpu()]


class NcnnRunner(Runner):
    """A net of ncnn's own files on one image, in float32, with its Winograd convs on.

    Args:
        param, model: the net's text and weights.
        activations: (1, C, H, W) each, in the order of the net's inputs.
        threads: of ncnn's OpenMP.

    Raises:
        Unavailable: ncnn is not installed, or refuses the net.
        ValueError: there are several images in a batch.
    """

    def __init__(self, param: Path, model: Path, activations: Sequence[Tensor], threads: int) -> None:
        _needs("ncnn", "ncnn")
        import ncnn

        if any(t.dim() != 4 or t.shape[0] != 1 for t in activations):
            raise ValueError(f"activations must be (1, C, H, W), got {[tuple(t.shape) for t in activations]}")
        self.net = ncnn.Net()
        option = self.net.opt
        option.num_threads, option.use_vulkan_compute = threads, False
        option.use_winograd_convolution = True
        option.use_fp16_packed = option.use_fp16_storage = option.use_fp16_arithmetic = False
        option.use_bf16_storage = False
        if self.net.load_param(str(param)) or self.net.load_model(str(model)):
            raise Unavailable("ncnn refuses the net")
        self.arrays = [t.detach()[0].contiguous().numpy() for t in activations]  # shared with ncnn: they must live
        self.images = dict(zip(self.net.input_names(), map(ncnn.Mat, self.arrays), strict=True))
        self.output = self.net.output_names()[0]

    def run(self, state: Any) -> Any:
        extractor = self.net.create_extractor()
        for name, image in self.images.items():
            extractor.input(name, image)
        status, output = extractor.extract(self.output)
        if status:
            raise RuntimeError(f"ncnn ended with {status}")
        return output

    def results(self) -> list[Tensor]:
        import numpy

        return [torch.from_numpy(numpy.array(self.run(None)))[None]]


def ncnn_conv(image: Tensor, weight: Tensor, bias: Tensor, *, relu: bool, threads: int) -> Runner:
    """One "same" conv as a net of one layer: (1, C, H, W), (O, C, k, k) with an odd k, (O,), float32; with ncnn's own
    fused ReLU or without.

    Raises:
        ValueError: a conv that is not such a one.
        Unavailable: ncnn is not installed.
    """
    outputs, inputs, k, width = weight.shape
    if image.shape[1] != inputs or k != width or k % 2 == 0:
        raise ValueError(
            f"weight must be (O, C, k, k) with an odd k, got {tuple(weight.shape)} for {tuple(image.shape)}"
        )
    # 0 outputs, 1 kernel, 4 padding, 5 has a bias, 6 number of weights, 9 activation (1: ReLU)
    layer = f"0={outputs} 1={k} 4={k // 2} 5=1 6={weight.numel()} 9={int(relu)}"
    values = [t.detach().contiguous().numpy().tobytes() for t in (weight, bias)]
    with tempfile.TemporaryDirectory() as folder:
        param, model = Path(folder) / "net.param", Path(folder) / "net.bin"
        param.write_text(f"7767517\n2 2\nInput data 0 1 data\nConvolution conv 1 1 data out {layer}\n")
        model.write_bytes(struct.pack("<I", 0) + b"".join(values))  # 0: what follows is float32
        return NcnnRunner(param, model, [image], threads)


def ncnn_files(
    module: nn.Module, activations: Sequence[Tensor], folder: Path, *, patience: float = 240.0
) -> tuple[Path, Path]:
    """A module in evaluation mode as pnnx converts it, from its trace: the net's text and weights, in a folder.

    Args:
        patience: seconds for pnnx.

    Raises:
        Unavailable: ncnn or pnnx is not installed, or pnnx fails or takes longer.
    """
    _needs("ncnn", "ncnn")
    _needs("pnnx", "ncnn")
    import pnnx

    inputs = tuple(t.detach() for t in activations)
    shapes = ",".join(f"[{','.join(map(str, t.shape))}]f32" for t in inputs)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(module.eval(), inputs, check_trace=False), str(folder / "net.pt"))
    program = Path(pnnx.__file__).parent / "pnnx"
    command = [str(program), "net.pt", f"inputshape={shapes}", "fp16=0"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"pnnx was not done after {patience:g} s") from None
    param, model = folder / "net.ncnn.param", folder / "net.ncnn.bin"
    if done.returncode or not param.exists() or not model.exists():
        raise Unavailable(f"pnnx failed: {' '.join((done.stderr or done.stdout).split())[-200:]}")
    return param, model


def ncnn_network(module: nn.Module, activations: Sequence[Tensor], threads: int, *, patience: float = 240.0) -> Runner:
    """A module as `ncnn_files` converts it; raises what that raises, and ValueError for several images in a batch."""
    with tempfile.TemporaryDirectory() as folder:
        return NcnnRunner(*ncnn_files(module, activations, Path(folder), patience=patience), activations, threads)
