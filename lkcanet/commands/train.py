"""`lkca train`."""

from . import _shared as shared
from ._options import takes_options
from ._report import report
from ._scenes import training_input
from ._training import (
    Given,
    Test,
    check_network,
    network_for,
    objective_for,
    says_how_to_go_on,
    tell_what_trains,
)


@says_how_to_go_on
@takes_options
def train(scene: shared.ScenePaths, *, test: Test = None, given: Given) -> None:
    """Train a network on one scene, on all but its test region; on several, of which some or parts of each validate;
    or on a folder of `lkca prepare`, which has its own test images, patches and scale.

    Ctrl-C or SIGTERM ends it cleanly: last.safetensors holds the last step, which is validated for best.safetensors
    (exit code 130; a second Ctrl-C does not wait for that). The same command with --resume goes on after that, or after
    a kill, as if there had been no interruption.

    A network that fuses takes a multispectral image too, from --msi or made of the scene by --response; of several
    scenes and of prepared folders by --response.

    Example: lkca train paintings/ --peak 65535 --test 0:512,320:512 --max-minutes 45 --out run

    Example: lkca train cave-x4/ --network lkca_net --ema 0.999 --max-minutes 240 --out run

    Example: lkca train a.mat b.mat c.mat --validation b --one-peak --out run

    Example: lkca train scene.hdr --model csakd-student --response landsat-tm-4 --psf-sigma 3 --test :,320: --out fused

    Example: lkca train set/ --model csakd-student --response landsat-tm-4 --psf-sigma 3 --out fused
    """
    from lkcanet import training

    check_network(given)
    options = given.options()
    data = training_input(scene, given, test, 4 if given.scale is None else given.scale)
    msi = given.msi_options.read(nodata=given.reading.nodata)
    model = network_for(given, data.scenes[0], data.scale, 0 if msi is None else msi.bands)
    objective = objective_for(given, model, options)
    tell_what_trains(given, model, data.splits)
    result = training.train(
        model,
        data.scenes,
        data.splits,
        options,
        given.out,
        msi=msi,
        objective=objective,
        init=given.init,
        overwrite=given.overwrite,
        resume=given.resume,
    )
    facts = training.describe(data.scenes, data.splits, options)
    if given.model is not None:
        facts |= {"network": given.model, **objective.facts()}
    report(given, result, scene, facts, model.config)
