"""`lkops.lowrank` where a result could be wrong in silence: odd models, features of many sizes, frozen parameters."""

import copy
import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import lkops
from lkops.lowrank import approximation_error, input_statistics, to_factored, to_grouped
from tests.lkops.fusion.foreign_convs import default_conv

pytest.importorskip("scipy", reason="scipy is not installed")


@pytest.fixture(autouse=True)
def seeded() -> Any:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = default_conv(4, 16)
        self.up = nn.Sequential(default_conv(16, 16), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Any:
        return self.up(torch.relu(self.head(x)))


def image() -> Tensor:
    return torch.rand(2, 4, 8, 8)


def features() -> Tensor:
    """Of 16 channels, mixtures of five."""
    fields = torch.einsum("cf,nfhw->nchw", torch.randn(16, 5), torch.randn(4, 5, 12, 12))
    return fields + 0.1 * torch.randn(4, 16, 12, 12)


def why_left(model: nn.Module) -> str:
    compressed, report = lkops.compress(model, rank=3)
    assert not report.compressed
    assert compressed.state_dict().keys() == model.state_dict().keys()
    return "; ".join(part.why for part in report.left)


class TestStatistics:
    def test_sizes_of_features_do_not_matter(self) -> None:
        """A feature that is 1e8 times smaller, and weighed as much more, gives the same approximation."""
        conv, x = nn.Conv2d(16, 32, 3, padding=1).double(), features().double()
        sizes = 10 ** torch.linspace(-6, 2, 16, dtype=torch.float64).view(4, 4).T.reshape(16, 1, 1)  # in each group
        scaled = copy.deepcopy(conv)
        with torch.no_grad():
            scaled.weight.div_(sizes)
        seen = input_statistics(conv, [conv], [x])[0], input_statistics(scaled, [scaled], [x * sizes])[0]
        for make in (lambda c, s: to_grouped(c, 4, statistics=s), lambda c, s: to_factored(c, 6, statistics=s)):
            usual, other = make(conv, seen[0]), make(scaled, seen[1])
            error = (usual(x) - conv(x)).norm() / conv(x).norm()
            assert error < 0.7
            assert torch.allclose(usual(x), other(x * sizes), atol=1e-4 * float(conv(x).detach().abs().max()))

    def test_inputs_that_never_vary_keep_their_weights(self) -> None:
        conv, x = nn.Conv2d(16, 32, 1), features()
        x[:, ::2] = 0
        (seen,) = input_statistics(conv, [conv], [x])
        near, plain = to_grouped(conv, 4, statistics=seen), to_grouped(conv, 4)
        assert isinstance(near, nn.Conv2d)
        assert isinstance(plain, nn.Conv2d)
        assert torch.allclose(near.weight[:, ::2], plain.weight[:, ::2], atol=1e-6)
        assert not torch.allclose(near.weight[:, 1::2], plain.weight[:, 1::2], atol=0.1)

    def test_inputs_of_zeros_tell_nothing(self) -> None:
        conv = nn.Conv2d(16, 32, 3, padding=1)
        (seen,) = input_statistics(conv, [conv], [torch.zeros(1, 16, 8, 8)])
        for make in (lambda s: to_grouped(conv, 4, statistics=s), lambda s: to_factored(conv, 6, statistics=s)):
            assert approximation_error(conv, make(seen)) == pytest.approx(approximation_error(conv, make(None)))

    def test_more_than_float32_holds(self) -> None:
        conv, x = nn.Conv2d(16, 32, 3, padding=1).double(), features().double() * 1e60
        (seen,) = input_statistics(conv, [conv], [x])
        patches = F.unfold(x, 3, 1, 1).transpose(0, 1).flatten(1)
        assert torch.allclose(seen.covariance, torch.cov(patches, correction=0), rtol=1e-9, atol=1e108)

    def test_offset_of_features(self) -> None:
        conv, x = nn.Conv2d(16, 32, 1), features() + 1e4
        (seen,) = input_statistics(conv, [conv], [x])
        patches = x.double().transpose(0, 1).flatten(1)
        assert torch.allclose(seen.covariance, torch.cov(patches, correction=0), atol=1e-6)

    @pytest.mark.parametrize("named", ["input", "features"])
    def test_arguments_by_name(self, named: str) -> None:
        class ByName(Net):
            def forward(self, x: Tensor) -> Tensor:
                x = torch.relu(self.head(x))
                if named == "input":
                    return F.pixel_shuffle(self.up[0](input=x), 2)
                return self.own(features=x)

        model, plain, x = ByName(), Net(), image()
        model.own = lkops.nn.UpsampleAdd(16, 4, 2)
        with torch.no_grad():
            model.own.conv.load_state_dict(model.up[0].state_dict())
            plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("own")})
        caller = model.own if named == "features" else model.up[0]
        (seen,) = input_statistics(model, [caller], [x])
        (expected,) = input_statistics(plain, [plain.up[0]], [x])
        assert torch.equal(seen.covariance, expected.covariance)

    def test_refuses(self) -> None:
        model = Net()
        with pytest.raises(ValueError, match=r"run input 1, a tensor \(1, 3, 8, 8\): RuntimeError"):
            input_statistics(model, [model.up[0]], [image(), torch.rand(1, 3, 8, 8)])
        assert not model.up[0]._forward_pre_hooks
        assert all(module.training for module in model.modules())
        with pytest.raises(TypeError, match="inputs must be an iterable"):
            input_statistics(model, [model.up[0]], 3)  # type: ignore[arg-type]
        factored = lkops.nn.UpsampleAdd(4, 4, 2, rank=2)
        with pytest.raises(ValueError, match="first module"):
            input_statistics(factored, [factored], [image()])


class TestLeftAlone:
    def test_forward_of_its_own_on_the_module(self) -> None:
        model, x = Net(), image()
        own = model.up[0].forward
        model.up[0].forward = lambda x: 2 * own(x)
        assert "no plain conv" in why_left(model)
        fused, _ = lkops.fuse(model, x, keep="all")
        assert torch.equal(fused(x), model(x))

    def test_held_in_a_list(self) -> None:
        model = Net()
        model.layers = [model.up[0]]
        assert "attribute that is no submodule" in why_left(model)

    def test_own_upsamplers_that_share_a_conv(self) -> None:
        one, other = lkops.nn.UpsampleAdd(4, 4, 2), lkops.nn.UpsampleAdd(4, 4, 2)
        other.conv = one.conv
        assert "1 holds it too" in why_left(nn.ModuleList([one, other]))

    def test_torchscript(self) -> None:
        assert "TorchScript" in why_left(torch.jit.trace(Net(), image()))

    def test_models_that_keep_a_computed_weight(self) -> None:
        old, pruned, x = Net(), Net(), image()
        with pytest.warns(FutureWarning):
            nn.utils.weight_norm(old.up[0])
        prune.l1_unstructured(pruned.up[0], "weight", 0.5)
        prune.l1_unstructured(pruned.head, "weight", 0.5)
        for model in (old, pruned):
            model(x)
            assert "hooks" in why_left(model)
            assert torch.equal(lkops.compress(model, rank=3)[0](x), model(x))
        # where it is the head's, the upsampler is compressed, and the head still computes its weight
        prune.remove(pruned.up[0], "weight")
        compressed, report = lkops.compress(pruned, rank=3)
        assert len(report.compressed) == 1
        features = torch.relu(pruned.head(x))
        assert torch.allclose(compressed(x), F.pixel_shuffle(to_factored(pruned.up[0], 3)(features), 2), atol=1e-6)
        compressed(x).sum().backward()
        assert compressed.head.weight_orig.grad.abs().max() > 0


class TestFrozen:
    def flags(self, model: nn.Module) -> dict[str, bool]:
        compressed, report = lkops.compress(model, rank=3)
        assert report.compressed
        return {name: p.requires_grad for name, p in compressed.named_parameters() if not name.startswith("head")}

    def test_weight_but_not_bias(self) -> None:
        model = Net()
        model.up[0].weight.requires_grad_(False)
        assert self.flags(model) == {"up.0.0.weight": False, "up.0.1.weight": False, "up.0.1.bias": True}

    @pytest.mark.parametrize("frozen", [("original0",), ("original0", "original1")])
    def test_normalised(self, frozen: tuple[str, ...]) -> None:
        model = Net()
        parametrizations.weight_norm(model.up[0])
        for name in frozen:
            model.up[0].get_parameter(f"parametrizations.weight.{name}").requires_grad_(False)
        flags = self.flags(model)
        assert len(flags) == 5
        assert all(trains == (name.rpartition(".")[2] not in frozen) for name, trains in flags.items())


class TestReport:
    def test_all_outputs_count(self) -> None:
        class Several(Net):
            def forward(self, x: Tensor) -> Any:
                return {"features": [self.head(x)], "image": super().forward(x)}

        model, x = Several(), image()
        compressed, report = lkops.compress(model, rank=3, example_input=x)
        y, z = model(x), compressed(x)
        size = torch.cat([y["features"][0].flatten(), y["image"].flatten()]).norm()
        assert report.output_error == pytest.approx(float((y["image"] - z["image"]).norm() / size), rel=1e-4)
        assert report.output_error > 0.01

    def test_refuses(self) -> None:
        class Reads(Net):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x) + self.up[0].bias.sum()

        class Nothing(Net):
            def forward(self, x: Tensor) -> None:
                super().forward(x)

        lazy = Net()
        lazy.head = nn.LazyConv2d(16, 3, padding=1)
        cases: list[tuple[nn.Module, dict[str, Any], str]] = [
            (Reads(), {"example_input": image()}, "not once it is compressed: AttributeError"),
            (Nothing(), {"example_input": image()}, "must return tensors .* got NoneType"),
            (lazy, {}, r"run it once: head\.weight has no shape"),
            (Net(), {"energy": True}, "energy goes with share, got rank"),
            (Net(), {"calibration": [(image(), image())]}, "calibration: the model can't run input 0, a tuple"),
        ]
        for model, options, message in cases:
            with pytest.raises(ValueError, match=message):
                lkops.compress(model, rank=3, **options)
        with pytest.raises(TypeError, match="calibration: inputs must be an iterable"):
            lkops.compress(Net(), rank=3, calibration=3)  # type: ignore[arg-type]


class TestAlignment:
    def pair(self) -> tuple[Any, Any]:
        teacher = Net()
        return teacher, lkops.compress(teacher, groups=4)[0]

    def test_wrapped_student(self) -> None:
        teacher, student = self.pair()
        result = lkops.distill_upsampler(teacher, nn.DataParallel(student), [image()], steps=1)
        assert result.trained == ("module.up.0.weight", "module.up.0.bias")
        assert torch.equal(student.head.weight, teacher.head.weight)

    def test_permuted_layers_are_not_trained(self) -> None:
        teacher, student = self.pair()
        order = torch.randperm(16)
        with torch.no_grad():
            for parameter in student.head.parameters():
                parameter.copy_(parameter[order])
        result = lkops.distill_upsampler(teacher, student, [image()], steps=1)
        assert result.trained == ("up.0.weight", "up.0.bias")

    def test_within_no_grad(self) -> None:
        teacher, student = self.pair()
        before = student.up[0].weight.detach().clone()
        with torch.no_grad():
            lkops.distill_upsampler(teacher, student, [image()], steps=1)
        assert not torch.equal(student.up[0].weight, before)

    def test_learning_rate_falls(self) -> None:
        teacher, student = self.pair()
        weights = [student.up[0].weight.detach().clone()]
        lkops.distill_upsampler(
            teacher,
            student,
            [image()],
            steps=3,
            learning_rate=1e-2,
            final_learning_rate=1e-5,
            progress=lambda step, terms: weights.append(student.up[0].weight.detach().clone()),
        )
        first, middle, last = [float((b - a).abs().max()) for a, b in itertools.pairwise(weights)]
        assert first == pytest.approx(1e-2, rel=1e-2)  # the first step of Adam is its learning rate
        assert 3e-3 < middle < 7e-3
        assert 5e-6 < last < 2e-5

    @pytest.mark.parametrize("train", ["upsampler", "all"])
    def test_modes(self, train: str) -> None:
        teacher, student = self.pair()
        teacher.train()
        student.eval()
        seen: list[tuple[bool, bool]] = []
        both = teacher, student
        lkops.distill_upsampler(
            *both,
            [image()],
            steps=2,
            train=train,
            progress=lambda *_: seen.append((teacher.training, student.training)),
        )
        assert seen == [(False, train == "all")] * 2
        assert teacher.training
        assert not student.training

    def test_gradient_not_finite(self) -> None:
        teacher, student = self.pair()
        before = copy.deepcopy(student.state_dict())
        student.up[0].weight.register_hook(lambda gradient: gradient * float("inf"))
        with pytest.raises(FloatingPointError, match="gradient is not finite at step 1"):
            lkops.distill_upsampler(teacher, student, [image()], steps=1)
        assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())

    def test_refuses_types(self) -> None:
        teacher, student = self.pair()
        with pytest.raises(TypeError, match="loader must be an iterable of batches, got int"):
            lkops.distill_upsampler(teacher, student, 3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="float16"):
            lkops.distill_upsampler(teacher.half(), student.half(), [image().half()])

        class Told(nn.Module):
            def __init__(self, net: nn.Module) -> None:
                super().__init__()
                self.net = net

            def forward(self, x: Tensor) -> dict[str, Tensor]:
                return {"image": self.net(x)}

        with pytest.raises(TypeError, match="teacher must return an image, a tensor, got dict"):
            lkops.distill_upsampler(Told(teacher.float()), student.float(), [image()])

    def test_same_bits_again(self) -> None:
        made = []
        for _ in range(2):
            torch.manual_seed(0)
            teacher, x = Net(), image()
            student, _ = lkops.compress(teacher, rank=3, calibration=[x])
            lkops.distill_upsampler(teacher, student, [x], steps=2)
            made.append(student.state_dict())
        assert all(torch.equal(value, made[1][key]) for key, value in made[0].items())
