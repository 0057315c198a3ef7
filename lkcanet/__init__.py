"""Hyperspectral super-resolution: LKCA-Net, its data, metrics, training and inference, built on lkops.

The main job needs no import but this one:

    network = lkcanet.load("lkca-res-cave-x4")      # a pretrained network (`lkca models` lists them), or a checkpoint
    sharp = lkcanet.super_resolve(network, lkcanet.read_scene("lr.npy", peak=65535))

    split = lkcanet.region_split(scene.shape, ":,320:", patch=128, stride=7)        # columns from 320 on are tested on
    lkcanet.train(network, scene, split, lkcanet.TrainOptions(steps=3000), "run")
    scores = lkcanet.score(scene, {"ours": network}, region=split.test).clean         # beside bicubic's
    lkcanet.show(network, lowres, scene).savefig("show.png")

Each name is that of the room where it is documented.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .common.moved import install as _install

if TYPE_CHECKING:
    from .common.options import TrainOptions
    from .data import read_scene, read_scenes, region_split, simulate_lowres, split_scenes, write_scene
    from .evaluation import before_and_after as show
    from .evaluation import evaluate, score
    from .inference import super_resolve
    from .models.pretrained import load
    from .training import distill, train

__all__ = [
    "TrainOptions", "distill", "evaluate", "load", "read_scene", "read_scenes", "region_split", "score",
    "show", "simulate_lowres", "split_scenes", "super_resolve", "train", "write_scene",
]  # fmt: skip

# the room of each, and what it is called there where that is another name
_PLACES = {
    "TrainOptions": "common.options",
    "distill": "training",
    "evaluate": "evaluation",
    "load": "models.pretrained",
    "read_scene": "data",
    "read_scenes": "data",
    "region_split": "data",
    "score": "evaluation",
    "show": "evaluation",
    "simulate_lowres": "data",
    "split_scenes": "data",
    "super_resolve": "inference",
    "train": "training",
    "write_scene": "data",
}
_THERE = {"show": "before_and_after"}

_install(__name__)


def __getattr__(name: str) -> Any:
    # imported when asked for: `import lkcanet` alone is quick, and needs no optional package
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PLACES[name]}", __name__), _THERE.get(name, name))


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
