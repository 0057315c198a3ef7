"""`lkca train`."""

from . import _prepared as prepared
from . import _shared as shared
from ._training import (
    Given,
    Test,
    network_for,
    report,
    split_for,
    takes_training_options,
    tell_what_trains,
)


@takes_training_options
def train(scene: shared.ScenePath, given: Given, test: Test = None) -> None:
    """Train a network on one scene, on all but its test region; or on a folder of `lkca prepare`, which has its own
    test images, patches and scale.

    Ctrl-C or SIGTERM ends it cleanly: last.safetensors holds the last step (exit code 130). The same command with
    --resume goes on after that, or after a kill, as if there had been no interruption.

    Example: lkca train paintings/ --peak 65535 --test 0:512,320:576 --max-minutes 45 --out run
    """
    from lkcanet import training
    from lkcanet.data import is_prepared

    options = given.options()
    if is_prepared(scene):
        loaded, split, scale = prepared.training_input(scene, given, test)
    else:
        if test is None:
            raise ValueError("--test is missing: the test region, such as 0:512,320:576, which training never reads")
        scale = 4 if given.scale is None else given.scale
        loaded = shared.load_scene(scene, given.key, given.axes, given.size, given.peak, **given.reading)
        split = split_for(given, loaded, test, scale)
    model = network_for(given, loaded, scale)
    tell_what_trains(given, model, split)
    result = training.train(model, loaded, split, options, given.out, overwrite=given.overwrite, resume=given.resume)
    report(given, result, scene, training.describe(loaded, split, options), model.config)
