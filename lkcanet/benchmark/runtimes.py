"""Runtimes for inference as a benchmark's providers: OpenVINO, onnxruntime and ncnn. None is needed; one that is not
installed says so. Inputs are shared with them where they allow it, outputs are left where they write them."""

import importlib.util
import io
import struct
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


class OpenVINORunner(Runner):
    """The eager module, converted. Inputs and outputs share memory with the caller, which is the fastest way."""

    def __init__(self, module: nn.Module, activations: Sequence[Tensor], precision: str, threads: int) -> None:
        _needs("openvino", "openvino")
        import openvino

        shapes = [list(t.shape) for t in activations]
        inputs = tuple(t.detach() for t in activations)
        with torch.no_grad():
            model = openvino.convert_model(module, example_input=inputs, input=shapes)
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        with kept_signal_stack():
            self.request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
        self.inputs = [t.numpy() for t in inputs]

    def run(self, state: Any) -> Any:
        return self.request.infer(self.inputs, share_inputs=True, share_outputs=True)

    def results(self) -> list[Tensor]:
        return [torch.from_numpy(output.copy()) for output in self.run(None).values()]


class OnnxRuntimeRunner(Runner):
    """The eager module as ONNX, in onnxruntime's CPU provider; inputs are bound once."""

    OPSET = 17

    def __init__(self, module: nn.Module, activations: Sequence[Tensor], threads: int) -> None:
        _needs("onnx", "onnx")
        _needs("onnxruntime", "onnx")
        import onnxruntime

        inputs = tuple(t.detach().contiguous() for t in activations)
        file = io.BytesIO()
        with warnings.catch_warnings(), torch.no_grad():
            # the tracing exporter needs no further package; it warns that it is not the newest, and of traced sizes
            warnings.simplefilter("ignore")
            torch.onnx.export(module.eval(), inputs, file, dynamo=False, opset_version=self.OPSET)  # type: ignore[arg-type]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        # its threads would spin on while the next provider is timed
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()
        names = [each.name for each in self.session.get_inputs()]
        self.inputs = [t.numpy() for t in inputs]  # bound without a copy: they must live
        for name, array in zip(names, self.inputs, strict=True):
            self.binding.bind_cpu_input(name, array)
        for each in self.session.get_outputs():
            self.binding.bind_output(each.name, "cpu")

    def run(self, state: Any) -> Any:
        return self.session.run_with_iobinding(self.binding)

    def results(self) -> list[Tensor]:
        self.run(None)
        return [torch.from_numpy(output.copy()) for output in self.binding.copy_outputs_to_cpu()]


class NcnnConvRunner(Runner):
    """One "same" 3x3 or other odd conv of one image as a net of ncnn, in float32, with its Winograd convs on.

    ncnn converts no modules itself; a net of one layer is its text and its weights.

    Args:
        image: (1, C, H, W).
        weight, bias: (O, C, k, k) and (O,), float32.
        relu: whether ncnn's own fused ReLU follows.
        threads: of ncnn's OpenMP.

    Raises:
        Unavailable: ncnn is not installed, or refuses the net.
        ValueError: there are several images, or a conv that is not such a one.
    """

    def __init__(self, image: Tensor, weight: Tensor, bias: Tensor, *, relu: bool, threads: int) -> None:
        _needs("ncnn", "ncnn")
        import ncnn

        outputs, inputs, k, width = weight.shape
        if image.shape[0] != 1 or image.shape[1] != inputs or k != width or k % 2 == 0:
            raise ValueError(
                f"image and weight must be (1, C, H, W) and (O, C, k, k), got {image.shape}, {weight.shape}"
            )
        self.net = ncnn.Net()
        option = self.net.opt
        option.num_threads, option.use_vulkan_compute = threads, False
        option.use_winograd_convolution = True
        option.use_fp16_packed = option.use_fp16_storage = option.use_fp16_arithmetic = False
        option.use_bf16_storage = False
        # 0 outputs, 1 kernel, 4 padding, 5 has a bias, 6 number of weights, 9 activation (1: ReLU)
        layer = f"0={outputs} 1={k} 4={k // 2} 5=1 6={weight.numel()} 9={int(relu)}"
        text = f"7767517\n2 2\nInput data 0 1 data\nConvolution conv 1 1 data out {layer}\n"
        values = [t.detach().contiguous().numpy().tobytes() for t in (weight, bias)]
        with tempfile.TemporaryDirectory() as folder:
            param, model = Path(folder) / "net.param", Path(folder) / "net.bin"
            param.write_text(text)
            model.write_bytes(struct.pack("<I", 0) + b"".join(values))  # 0: what follows is float32
            if self.net.load_param(str(param)) or self.net.load_model(str(model)):
                raise Unavailable("ncnn refuses a net of this conv")
        self.array = image.detach()[0].contiguous().numpy()
        self.image = ncnn.Mat(self.array)

    def run(self, state: Any) -> Any:
        extractor = self.net.create_extractor()
        extractor.input("data", self.image)
        status, output = extractor.extract("out")
        if status:
            raise RuntimeError(f"ncnn ended with {status}")
        return output

    def results(self) -> list[Tensor]:
        import numpy

        return [torch.from_numpy(numpy.array(self.run(None)))[None]]
