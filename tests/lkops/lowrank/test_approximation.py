"""Approximations of a conv against straight formulas in float64, and against what they must be the best of."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from lkops import lowrank
from lkops.lowrank import SelectChannels, approximation_error, input_statistics, to_factored, to_grouped

pytest.importorskip("scipy", reason="scipy is not installed")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def conv_of(inputs: int = 12, outputs: int = 24, kernel: int = 3, **options: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options).double()  # type: ignore[arg-type]


def blocks(weight: Tensor, groups: int) -> list[Tensor]:
    size = weight.shape[1] // groups
    return [part[:, k * size : (k + 1) * size] for k, part in enumerate(weight.chunk(groups))]


def correlated(count: int, channels: int, side: int = 9) -> Tensor:
    """Images whose channels are mixtures of a few, as features are."""
    mixing = torch.randn(channels, 3, dtype=torch.float64)
    fields = torch.randn(count, 3, side, side, dtype=torch.float64)
    return torch.einsum("cf,nfhw->nchw", mixing, fields) + 0.1 * torch.randn(count, channels, side, side) + 0.7


class TestGrouped:
    @pytest.mark.parametrize("groups", [1, 2, 3, 4, 12])
    def test_is_the_diagonal(self, groups: int) -> None:
        conv = conv_of()
        grouped = to_grouped(conv, groups)
        assert isinstance(grouped, nn.Conv2d)
        assert grouped.groups == groups
        assert torch.equal(grouped.weight, torch.cat(blocks(conv.weight, groups)))
        assert torch.equal(grouped.bias, conv.bias)
        kept = sum(float(block.detach().square().sum()) for block in blocks(conv.weight, groups))
        whole = float(conv.weight.detach().square().sum())
        assert approximation_error(conv, grouped) == pytest.approx((1 - kept / whole) ** 0.5, abs=1e-12)

    def test_block_diagonal_conv_is_kept_exactly(self) -> None:
        conv = conv_of()
        with torch.no_grad():
            conv.weight.copy_(lowrank.approximation._expanded(conv_of(groups=4)))
        x = torch.randn(2, 12, 7, 5, dtype=torch.float64)
        assert torch.allclose(to_grouped(conv, 4)(x), conv(x), atol=1e-13)
        assert approximation_error(conv, to_grouped(conv, 4)) == 0
        assert float(conv(x).detach().abs().max()) > 0.1

    def test_permutation_is_the_best_of_all(self) -> None:
        torch.manual_seed(1)  # with 0 the conv's own order happens to be the best
        conv = conv_of(6, 6, 1)
        permuted = to_grouped(conv, 2, permute=True)
        energy = conv.weight.detach().square().sum((2, 3))
        kept = max(
            float(energy[:3, list(first)].sum() + energy[3:, [i for i in range(6) if i not in first]].sum())
            for first in itertools.combinations(range(6), 3)
        )
        expected = (1 - kept / float(energy.sum())) ** 0.5
        assert approximation_error(conv, permuted) == pytest.approx(expected, abs=1e-12)
        assert approximation_error(conv, permuted) < approximation_error(conv, to_grouped(conv, 2))

    def test_permutation_finds_hidden_blocks(self) -> None:
        order = torch.randperm(12)
        hidden = conv_of(groups=3)
        conv = conv_of()
        with torch.no_grad():
            conv.weight[:, order] = lowrank.approximation._expanded(hidden)
            conv.bias.copy_(hidden.bias)  # type: ignore[union-attr, arg-type]
        permuted = to_grouped(conv, 3, permute=True)
        assert isinstance(permuted, nn.Sequential)
        assert isinstance(permuted[0], SelectChannels)
        x = torch.randn(2, 12, 5, 6, dtype=torch.float64)
        assert torch.allclose(permuted(x), conv(x), atol=1e-13)
        assert not torch.allclose(to_grouped(conv, 3)(x), conv(x), atol=0.01)

    def test_own_order_needs_no_selection(self) -> None:
        conv = conv_of()
        with torch.no_grad():
            conv.weight.copy_(lowrank.approximation._expanded(conv_of(groups=4)))
        assert isinstance(to_grouped(conv, 4, permute=True), nn.Conv2d)

    def test_finer_groups_of_a_grouped_conv(self) -> None:
        conv = conv_of(groups=2)
        finer = to_grouped(conv, 4)
        x = torch.randn(1, 12, 4, 4, dtype=torch.float64)
        first = F.conv2d(x[:, :3], conv.weight[:6, :3], conv.bias[:6], padding=1)  # type: ignore[index]
        assert torch.allclose(finer(x)[:, :6], first, atol=1e-13)

    @pytest.mark.parametrize(("groups", "what"), [(5, "inputs, 12; got 5"), (0, "groups"), (True, "groups")])
    def test_refuses(self, groups: int, what: str) -> None:
        with pytest.raises((ValueError, TypeError), match=what):
            to_grouped(conv_of(), groups)

    def test_refuses_groups_that_cut_outputs(self) -> None:
        with pytest.raises(ValueError, match="outputs, 10; got 4"):
            to_grouped(conv_of(12, 10), 4)


class TestFactored:
    @pytest.mark.parametrize("rank", [1, 5, 24])
    def test_is_the_truncated_svd(self, rank: int) -> None:
        conv = conv_of()
        factored = to_factored(conv, rank)
        u, s, vt = torch.linalg.svd(conv.weight.detach().flatten(1), full_matrices=False)
        near = ((u[:, :rank] * s[:rank]) @ vt[:rank]).view_as(conv.weight)
        x = torch.randn(2, 12, 6, 7, dtype=torch.float64)
        assert torch.allclose(factored(x), F.conv2d(x, near, conv.bias, padding=1), atol=1e-12)
        lost = float(s[rank:].square().sum() / s.square().sum()) ** 0.5
        assert approximation_error(conv, factored) == pytest.approx(lost, abs=1e-7)
        assert sum(p.numel() for p in factored.parameters()) == rank * (12 * 9 + 24) + 24

    @pytest.mark.parametrize("options", [{"stride": 2}, {"dilation": 2}, {"padding_mode": "reflect"}, {"bias": False}])
    def test_geometry(self, options: dict[str, object]) -> None:
        conv = conv_of(4, 6, **options)
        factored = to_factored(conv, 6)
        x = torch.randn(1, 4, 9, 8, dtype=torch.float64)
        assert factored(x).shape == conv(x).shape
        assert torch.allclose(factored(x), conv(x), atol=1e-12)

    def test_dtype_mode_and_what_trains(self) -> None:
        conv = conv_of().float().requires_grad_(False).eval()
        for new in (to_factored(conv, 3), to_grouped(conv, 2), to_grouped(conv, 2, permute=True)):
            assert not new.training
            assert all(p.dtype == torch.float32 and not p.requires_grad for p in new.parameters())
        assert all(p.requires_grad for p in to_factored(conv_of(), 3).parameters())

    def test_weight_norm_is_read(self) -> None:
        conv = weight_norm(conv_of())
        weight = conv.weight.detach()
        with torch.no_grad():  # where a computed weight has no gradient
            factored = to_factored(conv, 24)
        assert torch.allclose(lowrank.approximation._effective(factored), weight, atol=1e-12)
        assert all(p.requires_grad for p in factored.parameters())

    @pytest.mark.parametrize("rank", [0, 25, -1, 2.0])
    def test_refuses_rank(self, rank: int) -> None:
        with pytest.raises((ValueError, TypeError), match="rank"):
            to_factored(conv_of(), rank)

    def test_refuses_groups(self) -> None:
        with pytest.raises(ValueError, match="one group, got 2"):
            to_factored(conv_of(groups=2), 3)

    def test_refuses_what_is_no_conv(self) -> None:
        with pytest.raises(TypeError, match="Conv2d"):
            to_factored(nn.Linear(3, 3), 1)  # type: ignore[arg-type]


class TestStatistics:
    def test_are_those_of_the_patches(self) -> None:
        conv = conv_of(5, 4, kernel=3, dilation=2)
        conv.padding = (2, 1)
        images = correlated(3, 5)
        model = nn.Sequential(nn.Identity(), conv).train()
        (found,) = input_statistics(model, [conv], [images[:2], images[2:]])
        patches = F.unfold(images, 3, 2, (2, 1)).transpose(0, 1).flatten(1)
        assert found.patches == patches.shape[1]
        assert torch.allclose(found.mean, patches.mean(1), atol=1e-6)
        assert torch.allclose(found.covariance, torch.cov(patches, correction=0), atol=1e-5)
        assert model.training
        assert not conv._forward_pre_hooks

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("how", ["grouped", "permuted", "factored"])
    def test_give_the_least_squares(self, how: str, bias: bool) -> None:
        """No other weight or bias of the same structure does better on the same inputs: the gradient of the error is
        zero there."""
        conv = conv_of(8, 12, bias=bias)
        images = correlated(4, 8)
        (seen,) = input_statistics(conv, [conv], [images])
        make = {
            "grouped": lambda s: to_grouped(conv, 4, statistics=s),
            "permuted": lambda s: to_grouped(conv, 4, permute=True, statistics=s),
            "factored": lambda s: to_factored(conv, 3, statistics=s),
        }[how]
        plain, near = make(None), make(seen)
        target = conv(images).detach()
        error = (near(images) - target).square().mean()
        gradients = torch.autograd.grad(error, list(near.parameters()))
        assert max(float(g.abs().max()) for g in gradients) < 1e-4  # unfold works in float32
        before = (plain(images).detach() - target).square().mean()
        assert float(error.detach()) < {"factored": 0.9}.get(how, 0.5) * float(before)
        if bias:
            expected = float(error.detach() / target.var((0, 2, 3), correction=0).mean()) ** 0.5
            assert approximation_error(conv, near, statistics=seen) == pytest.approx(expected, rel=1e-3)

    def test_dead_inputs(self) -> None:
        conv = conv_of(4, 4)
        images = correlated(2, 4)
        images[:, :2] = 0
        (seen,) = input_statistics(conv, [conv], [images])
        for new in (to_grouped(conv, 2, statistics=seen), to_factored(conv, 2, statistics=seen)):
            assert new(images).isfinite().all()

    def test_refuses(self) -> None:
        conv, other = conv_of(4, 4), conv_of(5, 4)
        with pytest.raises(ValueError, match="fed with nothing"):
            input_statistics(conv, [other], [torch.randn(1, 4, 5, 5, dtype=torch.float64)])
        with pytest.raises(ValueError, match="NaN or infinite"):
            input_statistics(conv, [conv], [torch.full((1, 4, 5, 5), float("nan"), dtype=torch.float64)])
        reflecting = conv_of(4, 4, padding_mode="reflect")
        with pytest.raises(ValueError, match="padding_mode"):
            input_statistics(reflecting, [reflecting], [torch.randn(1, 4, 5, 5, dtype=torch.float64)])
        (seen,) = input_statistics(conv, [conv], [torch.randn(1, 4, 5, 5, dtype=torch.float64)])
        with pytest.raises(ValueError, match="45 values"):
            to_factored(other, 2, statistics=seen)


class TestSuggestGroups:
    def low_rank(self, inputs: int, outputs: int, rank: int) -> nn.Conv2d:
        conv = conv_of(inputs, outputs, 1)
        with torch.no_grad():
            left = torch.linalg.qr(torch.randn(outputs, rank, dtype=torch.float64))[0]
            right = torch.linalg.qr(torch.randn(inputs, rank, dtype=torch.float64))[0]
            conv.weight.copy_((left @ right.T)[:, :, None, None])  # rank equal singular values
        return conv

    @pytest.mark.parametrize(("rank", "groups"), [(4, 6), (5, 4), (6, 4), (8, 3), (12, 2), (13, 1)])
    def test_bound_by_the_rank(self, rank: int, groups: int) -> None:
        conv = self.low_rank(24, 48, rank)  # 12 bands, x2
        assert lowrank.suggest_groups(conv, 2, share=1.0) == groups

    def test_whole_bands(self) -> None:
        conv = self.low_rank(24, 28, 2)  # 7 bands, x2
        assert lowrank.suggest_groups(conv, 2) == 1
        assert lowrank.suggest_groups(conv, 2, whole_bands=False) == 4

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match=r"scale\^2 = 9 outputs, got 24"):
            lowrank.suggest_groups(conv_of(), 3)
