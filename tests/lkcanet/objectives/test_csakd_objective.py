"""CSAKD's online distillation: whose loss moves whom, that both learn, and a run from start to resumption."""

import json
from dataclasses import asdict

import pytest
import torch
from torch import nn

from lkcanet.models.csakd import CSAKD
from lkcanet.objectives import Batch, objective_for
from lkcanet.objectives.csakd import OnlineDistillation
from lkcanet.objectives.csakd_losses import CSAKDWeights, feature_loss, fusion_loss, student_loss

SIZES = {"features": 8, "growth": 4, "heads": 2, "head_width": 4}


def pair(seed: int = 0) -> tuple[CSAKD, CSAKD]:
    """A student and its teacher."""
    torch.manual_seed(seed)
    return CSAKD(6, 3, 2, (0, 1, 1, 1), h_groups=4, **SIZES), CSAKD(6, 3, 2, (1, 1, 1, 1), **SIZES)  # type: ignore[arg-type]


def batch(n: int = 2) -> Batch:
    """Images that vary smoothly, with an MSI of mean bands."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(n, 6, 5, 5, generator=generator)
    target = torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear")
    target[:, :, 5:9, 6:12] *= 0.3
    lowres = torch.nn.functional.avg_pool2d(target, 2)
    return Batch(lowres, target, target.unflatten(1, (3, 2)).mean(2))


def test_each_loss_moves_its_own_network_alone() -> None:
    student, teacher = pair()
    objective, given = OnlineDistillation(teacher), batch()
    terms = objective(student, given, 0.0)
    networks = {"student": list(student.parameters()), "teacher": list(teacher.parameters())}
    theirs = ("teacher_loss", "teacher_reconstruction", "teacher_beba", "teacher_sam_loss")
    moved = {"loss": ("student", "teacher")}
    moved |= {name: ("teacher",) if name in theirs else ("student",) for name in objective.terms}
    assert set(terms) == set(moved)
    for name, value in terms.items():
        for who, parameters in networks.items():
            grads = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
            size = sum(float(grad.abs().sum()) for grad in grads if grad is not None)
            assert (size > 0) == (who in moved[name]), (name, who)


def test_the_teachers_own_weights() -> None:
    student, teacher = pair()
    given = batch()

    def terms(**weights: float) -> dict[str, float]:
        found = OnlineDistillation(teacher, CSAKDWeights(**weights))(student, given, 0.0)
        return {key: float(value) for key, value in found.items()}

    alike = terms()
    other = terms(teacher_beba_weight=0.5, teacher_sam_weight=0.0)
    change = 0.4 * alike["teacher_beba"] - 0.1 * alike["teacher_sam_loss"]
    assert other["teacher_loss"] - alike["teacher_loss"] == pytest.approx(change, rel=1e-4)
    assert other["loss"] - alike["loss"] == pytest.approx(change, rel=1e-4)  # the student's is as it was
    with pytest.raises(ValueError, match="teacher_sam_weight must be a finite number, 0 or more, got -1"):
        CSAKDWeights(teacher_sam_weight=-1)


def test_the_joint_gradient_is_that_of_each_loss_alone() -> None:
    student, teacher = pair()
    given, weights = batch(), CSAKDWeights(reconstruction="smooth_l1", beba="paper", feature_weight=0.4)
    assert given.msi is not None
    OnlineDistillation(teacher, weights)(student, given, 0.0)["loss"].backward()
    image, z = student.fused(given.lowres, given.msi)
    their_image, their_z = teacher.fused(given.lowres, given.msi)
    ours = student_loss(image, z, given.target, their_image, their_z, weights).total
    theirs = fusion_loss(their_image, given.target, weights).total
    for network, loss in ((student, ours), (teacher, theirs)):
        parameters = list(network.parameters())
        for parameter, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            torch.testing.assert_close(parameter.grad, grad)


def test_the_terms_are_the_losses() -> None:
    student, teacher = pair()
    given = batch()
    assert given.msi is not None
    terms = OnlineDistillation(teacher)(student, given, 0.0)
    assert list(terms) == ["loss", *OnlineDistillation.terms]
    image, z = student.fused(given.lowres, given.msi)
    their_image, their_z = teacher.fused(given.lowres, given.msi)
    expected = fusion_loss(their_image, given.target)
    own = fusion_loss(image, given.target)
    kd, between = feature_loss(z, their_z), (image - their_image).abs().mean()
    values = [own.reconstruction, own.beba, own.sam, kd, between, *expected]
    for name, value in zip(OnlineDistillation.terms, values, strict=True):
        torch.testing.assert_close(terms[name], value, msg=name)
    torch.testing.assert_close(terms["loss"], own.total + 0.1 * kd + 0.1 * between + expected.total)


def test_both_learn() -> None:
    student, teacher = pair()
    objective, given = OnlineDistillation(teacher), batch()
    optimizer = torch.optim.Adam([*student.parameters(), *objective.parameters()], 3e-3)
    curve = []
    for _ in range(60):
        optimizer.zero_grad()
        terms = objective(student, given, 0.0)
        terms["loss"].backward()
        optimizer.step()
        objective.after_step()
        curve.append({name: float(value.detach()) for name, value in terms.items()})
    for name in ("reconstruction", "teacher_reconstruction", "sam_loss", "teacher_sam_loss"):
        assert curve[-1][name] < 0.4 * curve[0][name], name
    assert curve[-1]["kd_image"] < curve[0]["reconstruction"]


def test_the_teacher_is_kept() -> None:
    student, teacher = pair()
    objective = OnlineDistillation(teacher, CSAKDWeights(sam_weight=0.2))
    assert objective.companions() == {"teacher": teacher}
    assert {key.removeprefix("teacher.") for key in objective.state()} == set(teacher.state_dict())
    facts = json.loads(json.dumps(objective.facts()))
    known = {name: value for name, value in asdict(CSAKDWeights(sam_weight=0.2)).items() if value is not None}
    assert facts["objective"]["weights"] | {"floor": 0.0} == known
    other = OnlineDistillation(pair(seed=1)[1])
    assert not torch.equal(other.teacher.last.weight, teacher.last.weight)
    other.restore(objective.state())
    given = batch()
    assert torch.equal(other(student, given, 0.0)["loss"], OnlineDistillation(teacher)(student, given, 0.0)["loss"])


def test_the_objective_of_a_csakd_network_is_this_one() -> None:
    student, teacher = pair()
    objective = objective_for(student)
    assert isinstance(objective, OnlineDistillation)
    assert objective.teacher.config["counts"] == [6, 6, 4, 4]
    assert (objective.teacher.features, objective.teacher.msi_bands) == (8, 3)
    chosen = objective_for(student, teacher=teacher, sam_weight=0)
    assert isinstance(chosen, OnlineDistillation)
    assert chosen.teacher is teacher
    assert chosen.weights.sam_weight == 0


def test_pairs_that_are_refused() -> None:
    student, teacher = pair()
    given = batch()
    with pytest.raises(TypeError, match="teacher must be a CSAKD network, got Linear"):
        OnlineDistillation(nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model must be a CSAKD network, got Linear"):
        OnlineDistillation(teacher)(nn.Linear(1, 1), given, 0.0)
    with pytest.raises(ValueError, match="same object"):
        OnlineDistillation(student)(student, given, 0.0)
    with pytest.raises(ValueError, match=r"batch.msi must be the multispectral images that CSAKD fuses, got None"):
        OnlineDistillation(teacher)(student, Batch(given.lowres, given.target), 0.0)
    wide = CSAKD(6, 3, 2, (0, 0, 0, 0), features=10, growth=5)
    with pytest.raises(ValueError, match="the teacher's features must be the student's, 8; got 10"):
        OnlineDistillation(wide)(student, given, 0.0)
    with pytest.raises(ValueError, match="the teacher's msi_bands must be the student's, 3; got 2"):
        OnlineDistillation(CSAKD(6, 2, 2, (0, 0, 0, 0), **SIZES))(student, given, 0.0)  # type: ignore[arg-type]
