"""A network of your own in lkcanet: registered, trained, scored, exported. `python examples/custom_network.py`."""

import copy
from pathlib import Path

from torch import Tensor, nn

import lkcanet
import lkops.nn
from lkcanet.data import demo_scene
from lkcanet.deploy.export import export_onnx
from lkcanet.models import Capabilities, Network, Upsampler, register


class Mine(Network):
    """up(relu(conv3x3(x))) + bicubic(x)."""

    kind = "mine"

    def __init__(self, bands: int, scale: int = 4, channels: int = 64) -> None:
        super().__init__()
        self.bands, self.scale = bands, scale
        self.config = {"bands": bands, "scale": scale, "channels": channels}
        self.body = nn.Sequential(nn.Conv2d(bands, channels, 3, padding=1), nn.ReLU())
        self.up = lkops.nn.UpsampleAdd(channels, bands, scale)
        for each in self.up.conv.parameters():
            nn.init.zeros_(each)  # a fresh network returns the bicubic image

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.body(x), x)

    def fold(self) -> "Mine":
        return copy.deepcopy(self).eval()

    def macs(self, height: int, width: int) -> int:
        return height * width * sum(p.numel() for p in self.parameters() if p.dim() > 1)

    def capabilities(self) -> Capabilities:
        # two convs of 3x3: strips of large scenes follow from that; `lkca rank` gets the upsampler
        return Capabilities(receptive_field=2, upsampler=lambda: Upsampler.of(self.up))


register("mine", Mine)  # objective=make(network, options, **own) for a loss of its own


def main(folder: str = "example-mine", steps: int = 600) -> Path:
    """Train on a generated scene, and export for onnxruntime."""
    scene = demo_scene((160, 160), 16)
    split = lkcanet.region_split(scene.pixels.shape, ":,96:", patch=64, stride=7)
    options = lkcanet.TrainOptions(steps=steps, batch_size=4, learning_rate=2e-3, validate_every=max(1, steps // 2))
    trained = lkcanet.train(Mine(16), scene, split, options, folder, overwrite=True)
    network = lkcanet.load(str(trained.best))
    for name, row in lkcanet.score(scene, {"mine": network}, region=split.test).clean.items():
        print(f"{name:8} MPSNR {row['mpsnr']:.3f} dB")
    file = Path(folder) / "mine.onnx"
    export_onnx(network, file)  # any size and batch; compared with float64
    print(file)
    return file


if __name__ == "__main__":
    main()
