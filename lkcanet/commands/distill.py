"""`lkca distill`."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import _prepared as prepared
from . import _shared as shared
from ._msi import refuse_msi
from ._options import takes_options
from ._report import report
from ._scenes import split_for, training_input
from ._training import (
    Given,
    check_network,
    network_for,
    says_how_to_go_on,
    tell_what_trains,
)

if TYPE_CHECKING:
    from lkcanet.data import Scene, Split, TrainingRecord


@says_how_to_go_on
@takes_options
def distill(
    scene: shared.ScenePaths,
    *,
    teacher: Annotated[
        Path, typer.Option(metavar=shared.CHECKPOINT, help="The trained network to learn from, by file or name.")
    ],
    test: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS,COLUMNS",
            help="The test region, which training never reads. Default on the teacher's scene: the teacher's, and so "
            "with --validation and --train-region.",
        ),
    ] = None,
    on: Annotated[
        Literal["image", "features"],
        typer.Option(help="Compare the reconstructed images, or what the upsamplers give before the bicubic image."),
    ] = "image",
    alpha: Annotated[float, typer.Option(help="Weight of the distillation loss at the start.")] = 0.01,
    decay: Annotated[float, typer.Option(help="Factor d by which that weight falls; 1 keeps it.")] = 0.66,
    frequency: Annotated[float, typer.Option(help="Epochs f from one fall to the next.")] = 10,
    kd_cosine_weight: Annotated[float, typer.Option(help="Of the cosine in the distillation loss.")] = 0.5,
    kd_sam_weight: Annotated[float, typer.Option(help="Of the spectral angle in it.")] = 0.5,
    kd_gradient_weight: Annotated[float, typer.Option(help="Of the gradient term in it.")] = 0.1,
    given: Given,
) -> None:
    """Train a small network (the student) with the help of a larger one that is trained already: LKCA-KD.

    The student is fresh; by default an LKCA-LR of 16 blocks for a teacher such as an LKCA-Net of 32. Scenes are divided
    by the peak of the teacher's training; a folder of `lkca prepare` keeps its own peak, regions and patches.

    Example: lkca distill scene.mat --teacher teacher/best.safetensors --blocks 16 --max-minutes 45 --out student
    """
    from lkcanet import training

    distillation = training.Distillation(
        on=on,
        alpha=alpha,
        decay=decay,
        frequency=frequency,
        cosine_weight=kd_cosine_weight,
        sam_weight=kd_sam_weight,
        gradient_weight=kd_gradient_weight,
    )
    preset = check_network(given)
    if preset.fuses or given.objective is not None:
        what = "--objective" if given.objective is not None else f"--model {given.name}, which fuses an MSI,"
        raise ValueError(f"{what} does not go with lkca distill: lkca train trains it, with a teacher of its own")
    options = given.options()
    tutor, record = shared.load_checkpoint(teacher)
    refuse_msi(tutor, teacher, "distill")
    if given.scale not in (None, tutor.scale):
        raise ValueError(f"--scale is {given.scale}, but the teacher {teacher} is of scale {tutor.scale}")

    def alone(path: Path) -> "tuple[Scene, Split]":
        loaded = given.reading.scene_for(path, tutor, record)
        held, options = _regions(test, given, teacher, record, loaded)
        return loaded, split_for(options, loaded, held, tutor.scale)

    data = training_input(scene, given, test, tutor.scale, record=record, one=alone)
    if data.scale != tutor.scale:
        raise ValueError(f"the teacher {teacher} is of scale {tutor.scale}, {scene[0]} of scale {data.scale}")
    if data.prepared is not None:
        prepared.tell_doubts(record, data.prepared.scene, data.prepared.split)
    model = network_for(given, data.scenes[0], tutor.scale)
    tell_what_trains(given, model, data.splits)
    result = training.distill(
        model,
        tutor,
        data.scenes,
        data.splits,
        options,
        distillation,
        given.out,
        teacher_file=teacher,
        init=given.init,
        overwrite=given.overwrite,
        resume=given.resume,
    )
    facts = training.describe(data.scenes, data.splits, options)
    facts |= {"teacher": {"file": str(teacher), "config": tutor.config}, "distillation": asdict(distillation)}
    report(given, result, scene, facts, model.config)


def _regions(
    test: str | None, given: Given, teacher: Path, record: "TrainingRecord", scene: "Scene"
) -> tuple[str, Given]:
    """The regions that are not given are the teacher's, on the scene that it was trained on: a student must not train
    or choose its checkpoint on what its teacher has not kept apart either."""
    from lkcanet.data import parse_rect

    if not record.is_of(scene):
        if test is None:
            raise ValueError(f"give --test: {scene.name!r} is not the scene that {teacher} was trained on")
        return test, given
    if test is None and record.test is None:
        raise ValueError(f"give --test: {teacher} names no test region")
    if test is not None:
        test = str(parse_rect(test, scene.pixels.shape))  # as checkpoints spell it
        if test != record.test:
            return test, given  # another division of the scene altogether
    assert record.test is not None
    validation, inside = given.validation or record.validation, given.train_region
    if inside is None and (region := record.train_region(scene.pixels.shape)) is not None:
        inside = str(region)
    shared.note(
        f"note: regions of the teacher's training: test {record.test}, validation {validation}, training "
        f"{'on the rest' if inside is None else f'inside {inside}'}"
    )
    return record.test, replace(given, validation=validation, train_region=inside)
