"""From a scene to weights, scores and a picture, in Python: `python examples/train_in_python.py [SCENE] [FOLDER]`.

SCENE is any file that `lkcanet.read_scene` takes; without one a scene is generated. About a minute on two cores.
"""

import sys
from pathlib import Path

import lkcanet
from lkcanet.data import demo_scene
from lkcanet.evaluation import Metrics, save_figure
from lkcanet.models import lkca_lr


def main(file: str | None = None, folder: str = "example-run", steps: int = 400) -> dict[str, Metrics]:
    """Train on the left part of a scene, score and draw the right one."""
    scene = lkcanet.read_scene(file) if file else demo_scene((192, 192), 31)
    columns = scene.pixels.shape[2]
    # the test region is never read; the stride shares no factor with the scale, so that patches meet every phase
    split = lkcanet.region_split(scene.pixels.shape, f":,{columns * 5 // 8 // 4 * 4}:", patch=64, stride=7)

    network = lkca_lr(scene.pixels.shape[0], 4, channels=32, blocks=2)
    options = lkcanet.TrainOptions(steps=steps, batch_size=4, learning_rate=3e-3, validate_every=max(1, steps // 4))
    trained = lkcanet.train(network, scene, split, options, folder, overwrite=True)

    network = lkcanet.load(str(trained.best))
    assert split.test is not None
    scores = lkcanet.score(scene, {"LKCA-LR": network}, region=split.test).clean  # bicubic's too
    for name, row in scores.items():
        print(f"{name:8} MPSNR {row['mpsnr']:.3f} dB, SAM {row['sam']:.3f} degrees")
    test = scene.cropped(split.test)
    picture = lkcanet.show(network, lkcanet.simulate_lowres(test, 4), test)
    print(save_figure(picture, Path(folder) / "example.png"))
    return scores


if __name__ == "__main__":
    main(*sys.argv[1:])
