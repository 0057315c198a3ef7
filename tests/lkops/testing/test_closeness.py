"""What `lkops.testing` takes for close enough: each term of the bound, at its edge."""

import pytest
import torch

from lkops.testing import Policy, WrongResult, assert_as_good_as_eager, distances, share_of_allowed

EXACT = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
EXACT[0] = 4.0  # the largest, and exact in every dtype
EPS = torch.finfo(torch.float32).eps


def off(error: float, at: int = 1) -> torch.Tensor:
    """Float64, so that the error is what it says, and nothing else is."""
    result = EXACT.clone()
    result[at] += error
    return result


def policy(**facts) -> Policy:
    """Nothing is allowed but what the facts say."""
    return Policy(**{"times": 0, "roundings": 0, **facts})


@pytest.mark.parametrize(
    ("facts", "eager", "allowed"),
    [
        ({"times": 2}, 1e-3, 2e-3),
        ({"times": 2}, -1e-3, 2e-3),
        ({"roundings": 4}, 1e-3, 4 * 4 * torch.finfo(torch.float64).eps),
        ({"of_size": 0.01}, 1e-3, 0.04),
        ({"times": 2, "of_size": 0.01}, 1e-3, 0.042),
    ],
)
def test_each_term_of_the_bound(facts, eager, allowed) -> None:
    given = policy(**facts)
    assert share_of_allowed(off(0.99 * allowed), off(eager), EXACT, given) == pytest.approx(0.99, abs=0.3)
    with pytest.raises(WrongResult, match=r"result of shape .*: error .*, allowed"):
        share_of_allowed(off(1.5 * allowed), off(eager), EXACT, given)
    with pytest.raises(WrongResult):
        share_of_allowed(off(-1.5 * allowed), off(eager), EXACT, given)


def test_the_usual_policy_is_twice_eager_and_four_roundings() -> None:
    single = EXACT.float()
    assert_as_good_as_eager(single, single, EXACT)
    assert_as_good_as_eager(single + 3 * 4 * EPS, single, EXACT)
    with pytest.raises(AssertionError):
        assert_as_good_as_eager(single + 6 * 4 * EPS, single, EXACT)


def test_slack_scales_what_is_allowed() -> None:
    (once,) = distances(EXACT, off(1e-3), EXACT)
    (twice,) = distances(EXACT, off(1e-3), EXACT, Policy().scaled(2))
    assert twice.allowed == pytest.approx(2 * once.allowed)


def test_truncated_results_have_a_rounding_more_in_bfloat16_only() -> None:
    for dtype, more in ((torch.bfloat16, 1.25), (torch.float32, 1.0)):
        exact = EXACT.to(dtype).double()
        (rounded,), (truncated,) = (
            distances(exact.to(dtype), exact.to(dtype), exact, Policy(truncated=t)) for t in (False, True)
        )
        assert truncated.allowed == pytest.approx(more * rounded.allowed)


def test_a_loss_has_more_roundings_than_a_map() -> None:
    for exact, allowed in ((EXACT[:1], 16 * 4), (EXACT, 4 * 4)):
        (found,) = distances(exact, exact, exact, Policy(single=16))
        assert found.allowed == pytest.approx(allowed * torch.finfo(torch.float64).eps)


def test_so_many_values_may_lie_at_kinks_and_not_far_off() -> None:
    given = Policy(kinks=0.002)
    for flipped, fits in ((2, True), (3, False)):
        ours = EXACT.clone()
        ours[1 : 1 + flipped] *= -1
        if fits:
            share_of_allowed(ours, EXACT, EXACT, given)
        else:
            with pytest.raises(WrongResult, match="error"):
                share_of_allowed(ours, EXACT, EXACT, given)
    with pytest.raises(WrongResult, match="at a kink"):
        share_of_allowed(off(17.0), EXACT, EXACT, given)


def test_a_network_is_held_by_norms_and_its_small_gradients_by_all() -> None:
    small = 1e-9 * EXACT
    exact, eager = {"a": EXACT, "b": small}, {"a": EXACT + 1e-6, "b": small}
    ours = {"a": EXACT, "b": small + 1e-6}
    share_of_allowed(ours, eager, exact, Policy(norms=True))
    with pytest.raises(WrongResult, match=r"^b of shape"):
        share_of_allowed(ours, eager, exact, Policy(norms=True, together=False))
    with pytest.raises(WrongResult, match=r"^b of shape"):
        share_of_allowed(ours, eager, exact, Policy())
    share_of_allowed(ours, exact, exact, policy(norms=True, of_all=1e-5))


@pytest.mark.parametrize("norms", [False, True])
def test_what_no_error_excuses(norms) -> None:
    """Whatever eager does."""
    given = Policy(norms=norms, times=1e9)
    zeros, wild = torch.zeros_like(EXACT), 100 * EXACT
    for ours, words in (
        (zeros, "is all zeros"),
        (EXACT[:-1], r"of shape \(999,\), expected \(1000,\)"),
        (off(torch.nan), "not finite"),
        (off(torch.inf), "not finite"),
    ):
        with pytest.raises(WrongResult, match=words):
            share_of_allowed(ours, wild, EXACT, given)
    with pytest.raises(WrongResult, match="2 results, expected 1"):
        share_of_allowed([EXACT, EXACT], [EXACT], [EXACT], given)
    with pytest.raises(WrongResult, match="results are b; expected a"):
        share_of_allowed({"b": EXACT}, {"a": EXACT}, {"a": EXACT}, given)
    with pytest.raises(WrongResult, match="dtype"):
        assert_as_good_as_eager(EXACT, EXACT.float(), EXACT)


def test_an_eager_that_is_wrong_itself_allows_nothing() -> None:
    for norms in (False, True):
        given = Policy(norms=norms, eager_within=0.01)
        share_of_allowed(EXACT, 1.001 * EXACT, EXACT, given)
        with pytest.raises(WrongResult, match="eager PyTorch and float64 differ by"):
            share_of_allowed(EXACT, 1.1 * EXACT, EXACT, given)


def test_right_results_without_values_or_of_zeros() -> None:
    empty, zeros = EXACT[:0], torch.zeros(3, dtype=torch.float64)
    assert share_of_allowed(empty, empty, empty) == 0
    assert share_of_allowed(zeros, zeros, zeros) == 0
    with pytest.raises(WrongResult):
        share_of_allowed(zeros + 1e-300, zeros, zeros)
    nan = off(torch.nan)
    with pytest.raises(WrongResult, match="error nan"):  # whoever expects NaN compares it otherwise
        share_of_allowed(nan, nan, nan)
