"""Networks and images in files, as the providers of `bench.cpu.edge` read them, and what their images must be."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lkops
from lkcanet.benchmark import eager
from lkcanet.benchmark.checking import compare
from lkcanet.benchmark.providers import LARGE, Adapter, Problem, wake_up
from lkcanet.benchmark.runtimes import ncnn_files, onnx_bytes, openvino_model
from lkcanet.deploy.edge import export_edge
from lkcanet.models import PRESETS, LKCANet, save_model

SCALE = 4
# torch's own bicubic, which other runtimes have an operator for
_TORCHS: dict[str, Any] = {"cubic_a": -0.75, "border": "replicate"}
_TINY: dict[str, Any] = {"channels": 16, "blocks": 1, "reduction": 8}
# a provider's dtype of weights and features in the runtime's file
_DTYPES = {"lkedge": "float32", "lkedge bf16": "bfloat16", "lkedge int8": "int8"}
# by whose rule an image is right: lkcanet.benchmark.checking
_RULES = {
    "lkedge": "lkops",
    "lkedge in C": "lkops",
    "lkedge bf16": "lkops bf16",
    "lkedge int8": "lkops bf16",
    "torch": "lkops",
    "torch bf16": "lkops bf16",
    "openvino cached": "openvino",
}


class Given:
    """A network of random weights and a low-resolution image of one size.

    Args:
        preset: a name of `lkcanet.models.PRESETS`.
        bands, side: of the image, (bands, side, side).
        folder: where files are made, each when it is first asked for.
        tiny: a small network.
    """

    def __init__(self, preset: str, bands: int, side: int, folder: Path, *, tiny: bool = False) -> None:
        self.bands, self.side, self.folder = bands, side, folder
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        self.model: Any = PRESETS[preset].make(bands, SCALE, **_TORCHS, **(_TINY if tiny else {}))
        if isinstance(self.model, LKCANet):
            wake_up(self.model)
        self.model.eval()
        self.lowres = torch.rand(1, bands, side, side)
        self.lowres_file = folder / "lowres.npy"
        np.save(self.lowres_file, self.lowres[0].numpy())
        self._files: dict[str, str] = {}
        self._right: tuple[list[torch.Tensor], list[torch.Tensor]] | None = None
        folded = self.model.fold().requires_grad_(False)
        self.plain = Adapter(eager.Network(folded) if isinstance(folded, LKCANet) else folded)

    @property
    def bytes(self) -> int:
        """Of the image and its result, float32."""
        return 4 * self.lowres.numel() * (1 + SCALE**2)

    def file(self, provider: str) -> str:
        """The network as this provider reads it.

        Raises:
            Unavailable: its package is not installed, or can't convert the network.
        """
        key = provider if provider in _DTYPES else provider.split()[0]
        if key not in self._files:
            self._files[key] = str(self._made(key))
        return self._files[key]

    def _made(self, key: str) -> Path:
        if key in _DTYPES:
            dtype = _DTYPES[key]
            path = self.folder / f"net-{dtype}.lkops"
            export_edge(self.model, path, dtype=dtype, check=False)
        elif key == "torch":
            path = self.folder / "net.safetensors"
            save_model(self.model, path)
        elif key == "openvino":
            model = openvino_model(self.plain, (self.lowres,))
            import openvino

            path = self.folder / "net.xml"
            openvino.save_model(model, path, compress_to_fp16=False)
        elif key == "onnxruntime":
            path = self.folder / "net.onnx"
            path.write_bytes(onnx_bytes(self.plain, (self.lowres,)))
        elif key == "ncnn":
            path = ncnn_files(self.plain, (self.lowres,), self.folder)[0].with_suffix("")
        else:
            raise ValueError(f"provider must be a name that a worker knows, got {key!r}")
        return path

    def check(self, provider: str, image: np.ndarray) -> float:
        """The error of its image as a part of what is allowed, by the rule of the other benchmarks: against float64, or
        where that is too large against eager float32.

        Raises:
            lkcanet.benchmark.WrongOutput: it is more than all of it.
        """
        if self._right is None:
            with torch.inference_mode(), lkops.backend("reference"):
                plain = list(self.plain(self.lowres))
                exact = plain
                if math.prod(plain[0].shape) <= LARGE:
                    exact = list(copy.deepcopy(self.plain).double()(self.lowres.double()))
            self._right = plain, exact
        plain, exact = self._right
        problem = Problem(self.plain, self.plain, (self.lowres,), network=True)
        mine = torch.from_numpy(np.array(image)).reshape(plain[0].shape)
        return compare(problem, _RULES.get(provider, provider), [mine], plain, exact)
