"""The loss of EDLGFS: Sobel edges, who learns from whom, and weights that can't run away."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from lkcanet.models.baselines import VDSRLR
from lkcanet.models.edlgfs import EDLGFS
from lkcanet.objectives import Batch, HObjective, objective_for
from lkcanet.objectives.edlgfs import EdgeDistillation, sobel


def small(**options) -> EDLGFS:
    torch.manual_seed(0)
    sizes = {"scale": 2, "channels": 16, "stages": 2, "layers": 1, "spectral_heads": 2, "reduction": 4}
    return EDLGFS(5, **{**sizes, **options})


def batch() -> Batch:
    torch.manual_seed(1)
    return Batch(torch.rand(2, 5, 6, 7), torch.rand(2, 5, 12, 14), None)


@pytest.mark.parametrize(("padding", "mode"), [("replicate", "nearest"), ("zeros", "constant")])
@pytest.mark.parametrize("magnitude", ["euclidean", "sum"])
def test_sobel_is_scipys_for_every_band(padding: str, mode: str, magnitude: str) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    x = torch.rand(2, 3, 6, 9, dtype=torch.float64)
    edges = sobel(x, magnitude=magnitude, padding=padding)
    for n in range(2):
        for band in range(3):
            rows, columns = (ndimage.sobel(x[n, band].numpy(), axis, mode=mode) for axis in (0, 1))
            expected = np.hypot(rows, columns) if magnitude == "euclidean" else abs(rows) + abs(columns)
            np.testing.assert_allclose(edges[n, band], expected, rtol=1e-7, atol=2e-6)


def test_sobel_of_a_ramp_of_a_flat_image_and_of_half_precision() -> None:
    ramp = torch.arange(6.0).expand(1, 1, 5, 6)
    torch.testing.assert_close(sobel(ramp)[..., 1:-1], torch.full((1, 1, 5, 4), 8.0))
    torch.testing.assert_close(sobel(ramp.mT), sobel(ramp).mT)
    flat = torch.full((1, 2, 4, 4), 0.5, requires_grad=True)
    edges = sobel(flat)
    edges.sum().backward()
    assert edges.max() < 1e-5
    assert flat.grad.isfinite().all()
    assert sobel(flat.detach(), padding="zeros").max() > 1
    half = torch.rand(1, 2, 5, 5).to(torch.bfloat16)
    assert torch.equal(sobel(half), sobel(half.float()))


def test_the_loss_is_the_sum_of_its_terms() -> None:
    model, objective, data = small(), EdgeDistillation(edge_weight=0.2, learn=False), batch()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    losses = objective(model, data, 0.0)
    assert list(losses) == ["loss", *objective.terms]
    image, features = model.levels(data.lowres)
    edges, edge_features = model.edge(sobel(data.lowres))
    levels = sum((f - e).abs().mean() for f, e in zip(features, edge_features, strict=True)) / 2
    expected = {
        "l1": (image - data.target).abs().mean(),
        "edge_features": levels,
        "edge_image": (sobel(image) - edges).abs().mean(),
        "edge_branch": (edges - sobel(data.target)).abs().mean(),
        "edge_weight": torch.tensor(0.2),
    }
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
        assert value > 0.01
    three = expected["edge_features"] + expected["edge_image"] + expected["edge_branch"]
    torch.testing.assert_close(losses["loss"], 0.8 * expected["l1"] + 0.2 * three)
    literal = EdgeDistillation(compared="image")(model, data, 0.0)["edge_image"]
    torch.testing.assert_close(literal, (image - edges).abs().mean())
    assert abs(literal - expected["edge_image"]) > 0.01


def gradients(model: EDLGFS, objective: EdgeDistillation, term: str) -> tuple[float, float]:
    """Largest gradient of one term in the main and in the edge branch."""
    model.zero_grad(set_to_none=True)
    objective(model, batch(), 0.0)[term].backward()
    largest = [0.0, 0.0]
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            index = key.startswith("edge.")
            largest[index] = max(largest[index], float(parameter.grad.abs().max()))
    return largest[0], largest[1]


def test_the_main_branch_learns_from_the_edge_branch_and_as_a_choice_not_the_other_way_round() -> None:
    model, objective, mutual = small(), EdgeDistillation(mutual=False), EdgeDistillation()
    for term in ("edge_features", "edge_image"):
        main, edge = gradients(model, objective, term)
        assert main > 1e-4
        assert edge == 0
        main, edge = gradients(model, mutual, term)
        assert main > 1e-4
        assert edge > 1e-4
    main, edge = gradients(model, objective, "edge_branch")
    assert main == 0
    assert edge > 1e-4
    main, edge = gradients(model, objective, "l1")
    assert main > 1e-4
    assert edge == 0


def test_training_lowers_every_term_and_the_folded_network_has_learnt() -> None:
    model, objective, data = small(), EdgeDistillation(), batch()
    before = objective(model, data, 0.0)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        objective(model, data, 0.0)["loss"].backward()
        optimizer.step()
    after = objective(model, data, 0.0)
    for name in ("loss", "l1", "edge_features", "edge_branch"):
        assert after[name] < 0.9 * before[name], name
    assert abs(float(objective.weights.detach()[1]) - 0.05) > 1e-3
    folded = model.fold().requires_grad_(False)
    assert not any(key.startswith("edge.") for key in folded.state_dict())
    assert (folded(data.lowres) - data.target).abs().mean() == pytest.approx(float(after["l1"].detach()), rel=1e-5)


def descend(weights: nn.Parameter, total, steps: int = 1500) -> float:
    optimizer = torch.optim.Adam([weights], 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        total().backward()
        optimizer.step()
    return float(total().detach())


@pytest.mark.parametrize("losses", [(0.02, 0.3), (0.5, 0.001), (2.0, 2.0)])
def test_learning_the_weights_alone_lowers_plain_sums_for_ever_and_ours_to_a_bound(losses) -> None:
    """Losses that never change: nothing is learnt, so the total should not fall."""
    image, edges = torch.tensor(losses[0]), torch.tensor(losses[1])
    plain = nn.Parameter(torch.tensor([0.95, 0.05]))
    assert descend(plain, lambda: plain[0] * image + plain[1] * edges) < -0.1
    assert (plain < 0).all()

    objective = EdgeDistillation()
    start = float(objective.total(image, edges).detach())
    assert start == pytest.approx(0.95 * losses[0] + 0.05 * losses[1])
    end = descend(objective.logits, lambda: objective.total(image, edges))
    bound = -math.log(0.95 * math.exp(-losses[0]) + 0.05 * math.exp(-losses[1]))
    assert end == pytest.approx(bound, abs=1e-5)
    assert min(losses) <= end + 1e-6
    first, second = objective.weights.tolist()
    assert first + second == pytest.approx(1)
    assert second / first == pytest.approx(0.05 / 0.95 * math.exp(losses[0] - losses[1]), rel=1e-2)
    # the softmax alone would have ended at the smaller loss
    free = EdgeDistillation(pull=1e-9)
    descend(free.logits, lambda: free.total(image, edges))
    if losses[0] != losses[1]:
        assert float(free.weights.detach().min()) < 1e-3


def test_weights_are_kept_with_the_state_and_can_be_fixed() -> None:
    objective = EdgeDistillation(edge_weight=0.3)
    torch.testing.assert_close(objective.weights, torch.tensor([0.7, 0.3]))
    with torch.no_grad():
        objective.logits.add_(torch.tensor([0.0, 1.0]))
    other = EdgeDistillation()
    other.load_state_dict(objective.state_dict())
    assert torch.equal(other.weights, objective.weights)
    assert not EdgeDistillation(learn=False).logits.requires_grad
    assert [p for p in EdgeDistillation().parameters() if p.requires_grad]


def test_the_kind_names_its_objective_and_checkpoints_tell_of_it() -> None:
    objective = objective_for(small(), edge_weight=0.1, compared="image")
    assert isinstance(objective, EdgeDistillation)
    facts = objective.facts()["objective"]
    assert facts["name"] == "EdgeDistillation"
    assert (facts["edge_weight"], facts["compared"], facts["padding"]) == (0.1, "image", "replicate")
    assert facts == json.loads(json.dumps(facts))
    assert objective.facts() != EdgeDistillation().facts()
    assert isinstance(objective_for(VDSRLR(4, 2)), HObjective)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edge_weight": 0.0}, r"edge_weight must be in \(0, 1\), got 0\.0"),
        ({"edge_weight": 1}, r"edge_weight must be in \(0, 1\), got 1"),
        ({"pull": float("nan")}, "pull must be a finite number above 0, got nan"),
        ({"pull": float("inf")}, "pull must be a finite number above 0, got inf"),
        ({"compared": "both"}, "compared must be one of edges, image; got 'both'"),
        ({"magnitude": "l2"}, "magnitude must be one of euclidean, sum; got 'l2'"),
        ({"padding": "wrap"}, "padding must be one of replicate, zeros; got 'wrap'"),
    ],
)
def test_options_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EdgeDistillation(**options)


def test_networks_that_it_can_not_train() -> None:
    with pytest.raises(ValueError, match="model must have its edge branch"):
        EdgeDistillation()(small().fold(), batch(), 0.0)
    with pytest.raises(TypeError, match="model must be an EDLGFS, got Identity"):
        EdgeDistillation()(nn.Identity(), batch(), 0.0)
