"""One provider of `bench.cpu.edge` in a process of its own, where it meets no other's threads or memory:

    python edge_worker.py PROVIDER NETWORK LOWRES.npy IMAGE.npy THREADS

PROVIDER is a name of `PROVIDERS`, NETWORK the file that it reads. Makes the first image, writes it, and prints a line
of JSON: times (of the clock that all processes share) and resident memory as things went. Then each line that it reads
is a number of seconds: it calls for so long and prints the seconds of each call. It ends with its input.

Nothing is imported but what the provider needs, pathlib neither: it has a part in what is timed.
"""

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

Call = Callable[[], Any]  # makes the image again
Marks = dict[str, float]


def resident(field: str) -> int:
    """Bytes, of /proc/self/status: VmRSS now, VmHWM at the peak."""
    with open("/proc/self/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(field))


def mark(marks: Marks, name: str) -> None:
    marks[name] = time.monotonic()
    marks[f"{name} bytes"] = resident("VmRSS")


def _lkedge(path: str, lowres: Any, threads: int, marks: Marks) -> Call:
    import lkedge

    mark(marks, "imported")
    network = lkedge.load(path, threads=threads)
    return lambda: network(lowres)


def _torch(path: str, lowres: Any, threads: int, marks: Marks, *, half: bool = False) -> Call:
    import torch

    import lkops
    from lkcanet.models import load_model

    mark(marks, "imported")
    torch.set_num_threads(threads)
    network, image = load_model(path).eval().fold().requires_grad_(False), torch.from_numpy(lowres)[None]

    def run() -> Any:
        with torch.inference_mode(), lkops.backend("cpu"), torch.autocast("cpu", torch.bfloat16, enabled=half):
            return network(image)[0].numpy()

    return run


def _torch_half(path: str, lowres: Any, threads: int, marks: Marks) -> Call:
    return _torch(path, lowres, threads, marks, half=True)


def _openvino(path: str, lowres: Any, threads: int, marks: Marks, *, precision: str = "f32", cache: str = "") -> Call:
    import openvino

    mark(marks, "imported")
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    if cache:
        options["CACHE_DIR"] = cache
    request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()
    inputs = [lowres[None]]
    return lambda: request.infer(inputs, share_inputs=True, share_outputs=True)[0][0]


def _openvino_half(path: str, lowres: Any, threads: int, marks: Marks) -> Call:
    return _openvino(path, lowres, threads, marks, precision="bf16")


def _openvino_cached(path: str, lowres: Any, threads: int, marks: Marks) -> Call:
    return _openvino(path, lowres, threads, marks, cache=f"{path}.cache")


def _onnxruntime(path: str, lowres: Any, threads: int, marks: Marks) -> Call:
    import onnxruntime

    mark(marks, "imported")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding, image = session.io_binding(), lowres[None]
    binding.bind_cpu_input(session.get_inputs()[0].name, image)
    binding.bind_output(session.get_outputs()[0].name, "cpu")

    def run() -> Any:
        session.run_with_iobinding(binding)
        return binding.get_outputs()[0]

    return run


def _ncnn(path: str, lowres: Any, threads: int, marks: Marks) -> Call:
    import ncnn

    mark(marks, "imported")
    net = ncnn.Net()
    option = net.opt
    option.num_threads, option.use_vulkan_compute, option.use_winograd_convolution = threads, False, True
    option.use_fp16_packed = option.use_fp16_storage = option.use_fp16_arithmetic = option.use_bf16_storage = False
    if net.load_param(f"{path}.param") or net.load_model(f"{path}.bin"):
        raise SystemExit("ncnn refuses the net")
    name, output, image = net.input_names()[0], net.output_names()[0], ncnn.Mat(lowres)

    def run() -> Any:
        extractor = net.create_extractor()
        extractor.input(name, image)
        status, made = extractor.extract(output)
        if status:
            raise SystemExit(f"ncnn ended with {status}")
        return made

    return run


PROVIDERS: dict[str, Callable[[str, Any, int, Marks], Call]] = {
    "lkedge": _lkedge,
    "torch": _torch,
    "torch bf16": _torch_half,
    "openvino": _openvino,
    "openvino bf16": _openvino_half,
    "openvino cached": _openvino_cached,
    "onnxruntime": _onnxruntime,
    "ncnn": _ncnn,
}


def libraries(package: str) -> int:
    """Bytes of the shared libraries of a package that this process has mapped: what it needed to run."""
    from pathlib import Path

    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = {Path(line.split(maxsplit=5)[5]) for line in lines if ".so" in line}
    return sum(path.stat().st_size for path in paths if f"/{package}" in str(path) and path.exists())


def turns(call: Call, lines: Iterable[str]) -> None:
    """Answer each line, a number of seconds, with the times of calls; the first of a turn is not counted."""
    import gc
    import json

    gc.disable()
    for line in lines:
        call()
        taken: list[float] = []
        end = time.perf_counter() + float(line)
        while not taken or time.perf_counter() < end:
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
        print(json.dumps(taken), flush=True)


def main() -> None:
    marks: Marks = {}
    mark(marks, "begun")
    provider, path, lowres_path, image_path, threads = sys.argv[1:]
    import numpy as np

    mark(marks, "numpy")
    lowres = np.load(lowres_path)
    call = PROVIDERS[provider](path, lowres, int(threads), marks)
    mark(marks, "loaded")
    image = call()
    mark(marks, "first")
    marks["peak bytes"] = resident("VmHWM")
    import json

    np.save(image_path, np.asarray(image.numpy() if hasattr(image, "numpy") else image).reshape(-1))
    marks["library bytes"] = libraries(provider.split()[0])
    del image
    print(json.dumps(marks), flush=True)
    turns(call, sys.stdin)


if __name__ == "__main__":
    main()
