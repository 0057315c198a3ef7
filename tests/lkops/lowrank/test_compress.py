"""`lkops.compress` on networks that know nothing of lkops, and `lkops.distill_upsampler` after it."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import lkops
from lkops.lowrank import SelectChannels
from tests.lkops.fusion.foreign import NETWORKS
from tests.lkops.fusion.foreign_convs import WDSR, Recursive, Upsampler, default_conv

pytest.importorskip("scipy", reason="scipy is not installed")


@pytest.fixture(autouse=True)
def seeded() -> Any:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Net(nn.Module):
    """A head and one upsampler."""

    def __init__(self, channels: int = 16, bands: int = 4, scale: int = 2) -> None:
        super().__init__()
        self.head = default_conv(bands, channels)
        self.up = nn.Sequential(default_conv(channels, bands * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        return self.up(torch.relu(self.head(x)))


def image(bands: int = 4, count: int = 2) -> Tensor:
    return torch.rand(count, bands, 8, 8)


# network -> places of its upsamplers
PLACES: dict[str, list[str]] = {
    "EDSR": ["tail.0.0", "tail.0.2"],
    "RCAN": ["tail.0.0"],
    "VDSR": ["upscale.0"],
    "VAN": ["to_img.0"],
    "SwinIR": ["upsample.0"],
    "functional": [],
    "recursive": ["conv_up"],
    "weight norm": ["tail.0", "skip.0"],
    "untraceable": ["tail.0"],
}


@pytest.mark.parametrize("name", PLACES)
def test_finds_every_upsampler(name: str) -> None:
    model = NETWORKS[name]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    bands = {"VDSR": 5, "functional": 4}.get(name, 3)
    compressed, report = lkops.compress(model, rank=2, example_input=image(bands, 1))
    shuffled = [part.place for part in report.compressed]
    places = PLACES[name]
    if places:
        assert shuffled == places
        assert report.parameters[1] < report.parameters[0]
        assert report.macs is not None
        assert report.macs[1] < report.macs[0]
    else:
        assert not shuffled
        assert [part.place for part in report.left] == ["w_up"]  # nothing is passed over in silence
    assert report.output_error is not None
    assert report.output_error > 0 if shuffled else report.output_error == 0
    for key, value in model.state_dict().items():  # the model is as it was
        assert torch.equal(value, before[key])
    state = copy.deepcopy(compressed).state_dict()
    compressed.load_state_dict(state)
    assert compressed.training == model.training


def test_output_is_that_of_the_approximations() -> None:
    model, x = Net(), image()
    compressed, report = lkops.compress(model, groups=4, example_input=x)
    features = torch.relu(model.head(x))
    expected = F.pixel_shuffle(lkops.lowrank.to_grouped(model.up[0], 4)(features), 2)
    assert torch.equal(compressed(x), expected)
    (part,) = report.compressed
    assert (part.place, part.parameters, part.macs) == ("up.0", (16 * 16 * 9 + 16, 16 * 4 * 9 + 16), (2304, 576))
    assert report.parameters == (
        sum(p.numel() for p in model.parameters()),
        sum(p.numel() for p in compressed.parameters()),
    )
    assert report.macs == ((4 * 16 * 9 + 2304) * 128, (4 * 16 * 9 + 576) * 128)
    difference = float((model(x) - compressed(x)).norm() / model(x).norm())
    assert report.output_error == pytest.approx(difference, rel=1e-5)
    assert "8" in str(report)
    assert "up.0" in str(report)


def test_share_gives_the_rank() -> None:
    model = Net()
    with torch.no_grad():  # of rank 5, with noise
        left, right = torch.randn(16, 5), torch.randn(5, 144)
        model.up[0].weight.copy_((left @ right).view(16, 16, 3, 3) + 1e-3 * torch.randn(16, 16, 3, 3))
    compressed, report = lkops.compress(model, share=0.98)
    assert compressed.up[0][0].out_channels == lkops.lowrank.rank_at(model.up[0], 0.98) == 5
    assert report.compressed[0].error < 0.01
    assert lkops.compress(model)[0].up[0][0].out_channels == lkops.lowrank.rank_at(model.up[0], 0.9)
    assert report.macs is None
    assert report.output_error is None


def test_calibration_is_better_where_it_counts() -> None:
    model = Net().eval()
    images = torch.rand(4, 4, 1, 1) * torch.rand(4, 1, 8, 8)  # bands alike: features are correlated
    for options in ({"groups": 4}, {"groups": 4, "permute": True}, {"rank": 4}):
        _, plain = lkops.compress(model, example_input=images, **options)  # type: ignore[arg-type]
        _, better = lkops.compress(model, example_input=images, calibration=[images], **options)  # type: ignore[arg-type]
        assert plain.output_error is not None
        assert better.output_error is not None
        assert better.output_error < 0.5 * plain.output_error
        assert better.output_error < 1.5 * better.compressed[0].error


def test_fuse_finds_the_new_convs() -> None:
    for options in ({"groups": 4, "permute": True}, {"rank": 4}):
        compressed, _ = lkops.compress(Net(), **options)  # type: ignore[arg-type]
        fused, report = lkops.fuse(compressed, image(), keep="all")
        assert [part.operator for part in report.replaced] == ["upsample_add"]
        x = image()
        assert torch.allclose(fused(x), compressed(x), atol=1e-5)


def test_conv_in_two_places_is_one_again() -> None:
    model = Recursive()
    model.again = model.conv_up
    compressed, report = lkops.compress(model, rank=2)
    assert len(report.compressed) == 1
    assert compressed.again is compressed.conv_up
    assert isinstance(compressed.conv_up, nn.Sequential)


def test_weight_norm_comes_back() -> None:
    compressed, report = lkops.compress(WDSR(), groups=2)
    assert len(report.compressed) + len(report.left) == 2
    convs = [module for part in report.compressed for module in compressed.get_submodule(part.place).modules()]
    convs = [conv for conv in convs if isinstance(conv, nn.Conv2d)]
    assert convs
    assert all(parametrize.is_parametrized(conv, "weight") for conv in convs)
    x = torch.rand(1, 3, 8, 8)
    assert compressed(x).isfinite().all()
    assert all(p.requires_grad for p in compressed.parameters())


def test_dead_rows_under_weight_norm() -> None:
    model = Net()
    parametrizations.weight_norm(model.up[0])
    with torch.no_grad():
        model.up[0].parametrizations.weight.original0[3] = 0
    compressed, _ = lkops.compress(model, groups=2)
    assert compressed(image()).isfinite().all()
    assert not compressed.up[0].weight[3].any()


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = default_conv(4, 16)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(F.conv2d(x, self.up.weight, self.up.bias, padding=1), 2)


def left(model: nn.Module, **options: Any) -> str:
    """What `compress` says of a model that it leaves alone."""
    compressed, report = lkops.compress(model, **(options or {"rank": 1}))
    assert not report.compressed
    assert "nothing was compressed" in str(report)
    assert compressed.state_dict().keys() == model.state_dict().keys()
    return "; ".join(part.why for part in report.left)


def test_left_alone_with_the_reason() -> None:
    assert left(nn.Conv2d(3, 3, 3)) == ""
    assert "3 groups do not divide its 16 inputs" in left(Net(), groups=3)
    assert "one group" in left(Net(), groups=1)
    assert "more parameters: up to rank 14" in left(Net(), rank=16)
    assert "not by a conv that could be replaced" in left(Functional())
    hooked = Net()
    hooked.up[0].register_forward_hook(lambda *_: None)
    assert "hooks" in left(hooked)
    zero = Net()
    nn.init.zeros_(zero.up[0].weight)
    assert "all zeros" in left(zero)
    bad = Net()
    with torch.no_grad():
        bad.up[0].weight[0] = float("nan")
    assert "NaN" in left(bad)
    spectral = Net()
    parametrizations.spectral_norm(spectral.up[0])
    assert "no weight norm" in left(spectral)
    tied = Net()
    tied.other = default_conv(16, 16)
    tied.other.weight = tied.up[0].weight
    assert "belong to other too" in left(tied)
    grouped, _ = lkops.compress(Net(), groups=4)
    assert "it has 4 groups already" in left(grouped, groups=2)
    assert "it has 4 groups already" in left(grouped, rank=2)
    fused, _ = lkops.fuse(Net(), image(), keep="all")
    assert "before it is fused" in left(fused)
    with torch.device("meta"):
        meta = Net()
    assert "meta" in left(meta)
    strided = nn.Sequential(nn.Conv2d(4, 16, 3, stride=2, padding=1), nn.PixelShuffle(2))
    assert "stride" in left(strided)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 2, "rank": 2}, "give one of share, groups and rank, got groups and rank"),
        ({"rank": 0}, "rank"),
        ({"groups": -1}, "groups"),
        ({"share": 1.5}, "share"),
        ({"rank": 2, "permute": True}, "permute goes with groups"),
        ({"rank": 2, "example_input": torch.rand(1, 3, 8, 8)}, "can't run example_input"),
        ({"rank": 2, "calibration": []}, "fed with nothing"),
    ],
)
def test_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lkops.compress(Net(), **options)


def test_refuses_types() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got function"):
        lkops.compress(lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="example_input must be"):
        lkops.compress(Net(), rank=1, example_input=3)  # type: ignore[arg-type]


class TestOwnUpsampler:
    def model(self) -> nn.Module:
        class Own(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.head, self.up = default_conv(4, 16), lkops.nn.UpsampleAdd(16, 4, 2)

            def forward(self, x: Tensor) -> Tensor:
                return self.up(torch.relu(self.head(x)), x)

        return Own()

    @pytest.mark.parametrize("options", [{"groups": 4}, {"groups": 4, "permute": True}, {"rank": 3}])
    @pytest.mark.parametrize("calibrated", [False, True])
    def test_is_compressed_inside(self, options: dict[str, Any], calibrated: bool) -> None:
        model, x = self.model(), image()
        calibration = [x] if calibrated else None
        compressed, report = lkops.compress(model, calibration=calibration, example_input=x, **options)
        assert [part.place for part in report.compressed] == ["up.conv"]
        assert isinstance(compressed.up, lkops.nn.UpsampleAdd)
        assert isinstance(
            compressed.up.first, {"rank": nn.Conv2d, "permute": SelectChannels}.get([*options][-1], type(None))
        )
        (seen,) = lkops.lowrank.input_statistics(model, [model.up], [x]) if calibrated else [None]
        conv = model.up.conv
        make = lkops.lowrank.to_factored if "rank" in options else lkops.lowrank.to_grouped
        near = make(conv, statistics=seen, **options)
        features = torch.relu(model.head(x))
        expected = F.pixel_shuffle(near(features), 2) + lkops.bicubic_upsample(x, scale=2)
        assert torch.allclose(compressed(x), expected, atol=1e-5)

    def test_once(self) -> None:
        compressed, _ = lkops.compress(self.model(), rank=3)
        assert left(compressed) == "compressed already"


class TestAlignment:
    def pair(self) -> tuple[Net, nn.Module]:
        teacher = Net()
        student, _ = lkops.compress(teacher, groups=4)
        return teacher, student

    def images(self, count: int = 4) -> list[Tensor]:
        return [image() for _ in range(count)]

    def test_learns_and_leaves_the_rest(self) -> None:
        teacher, student = self.pair()
        before = {key: value.clone() for key, value in student.state_dict().items()}
        old = {key: value.clone() for key, value in teacher.state_dict().items()}
        loader = self.images()
        seen: list[int] = []
        result = lkops.distill_upsampler(
            teacher, student, loader, steps=40, learning_rate=1e-2, progress=lambda step, terms: seen.append(step)
        )
        assert result.trained == ("up.0.weight", "up.0.bias")
        assert result.steps == len(result.history) == 40
        assert seen == list(range(1, 41))
        x = loader[0]
        start = copy.deepcopy(student)
        start.load_state_dict(before)
        assert float((student(x) - teacher(x)).norm()) < 0.7 * float((start(x) - teacher(x)).norm())
        assert result.history[-1]["l1"] < 0.7 * result.history[0]["l1"]
        for key, value in student.state_dict().items():
            assert torch.equal(value, before[key]) != (key in result.trained)
        for key, value in teacher.state_dict().items():
            assert torch.equal(value, old[key])
        assert all(p.requires_grad and p.grad is None for p in (*student.parameters(), *teacher.parameters()))
        assert student.training
        assert teacher.training

    def test_loss_is_the_formula(self) -> None:
        teacher, student = self.pair()
        x, target = image(), torch.rand(2, 4, 16, 16)
        s, t = student(x).detach(), teacher(x).detach()
        result = lkops.distill_upsampler(teacher, student, [(x, target)], steps=1, alpha=0.3)

        def parts(a: Tensor, b: Tensor) -> lkops.SpectralLosses:
            return lkops.spectral_losses(a, b, backend="reference")

        kd, h = parts(s, t), parts(s, target)
        expected_kd = 0.5 * kd.cosine + 0.5 * kd.sam + 0.1 * kd.gradient
        (terms,) = result.history
        assert terms["kd"] == pytest.approx(float(expected_kd), rel=1e-4)
        assert terms["loss"] == pytest.approx(
            float(0.3 * expected_kd + h.l1 + 0.5 * h.sam + 0.1 * h.gradient), rel=1e-4
        )
        assert terms["l1"] == pytest.approx(float((s - target).abs().mean()), rel=1e-4)

    def test_decay(self) -> None:
        teacher, student = self.pair()
        result = lkops.distill_upsampler(teacher, student, self.images(), steps=6, frequency=2, decay=0.5)
        assert [terms["decay"] for terms in result.history] == [1, 1, 0.5, 0.5, 0.25, 0.25]

    def test_all_trains_all(self) -> None:
        teacher, student = self.pair()
        result = lkops.distill_upsampler(teacher, student, self.images(), steps=2, train="all")
        assert result.trained == tuple(name for name, _ in student.named_parameters())
        assert not torch.equal(student.head.weight, teacher.head.weight)

    def test_frozen_stays_frozen(self) -> None:
        teacher, student = self.pair()
        student.up[0].bias.requires_grad_(False)
        result = lkops.distill_upsampler(teacher, student, self.images(), steps=2)
        assert result.trained == ("up.0.weight",)
        assert not student.up[0].bias.requires_grad

    def test_normalised_layers_train_whole(self) -> None:
        teacher = WDSR()
        student, _ = lkops.compress(teacher, groups=2)
        result = lkops.distill_upsampler(teacher, student, [torch.rand(1, 3, 8, 8)], steps=1)
        assert {name.split(".")[0] for name in result.trained} <= {"tail", "skip"}
        assert "tail.0.bias" in result.trained

    def test_not_finite(self) -> None:
        teacher, student = self.pair()
        before = student.up[0].weight.detach().clone()
        with pytest.raises(FloatingPointError, match="step 1"):
            lkops.distill_upsampler(teacher, student, [torch.full((1, 4, 8, 8), float("nan"))], steps=2)
        assert torch.equal(student.up[0].weight, before)
        assert student.head.weight.requires_grad

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"steps": 0}, "steps"),
            ({"decay": 0}, "decay must be a finite number above 0 and at most 1, got 0"),
            ({"decay": 1.5}, "decay"),
            ({"alpha": -1}, "alpha"),
            ({"learning_rate": float("nan")}, "learning_rate"),
            ({"train": "head"}, "train must be one of upsampler, all; got 'head'"),
            ({"loader": []}, "loader must give batches"),
            ({"loader": [(torch.rand(1, 4, 8, 8), torch.rand(1, 4, 8, 8))]}, r"target's image .* \(1, 4, 16, 16\)"),
        ],
    )
    def test_refuses(self, options: dict[str, Any], message: str) -> None:
        teacher, student = self.pair()
        given = {"loader": self.images(1), "steps": 1, **options}
        with pytest.raises(ValueError, match=message):
            lkops.distill_upsampler(teacher, student, given.pop("loader"), **given)

    def test_refuses_pairs(self) -> None:
        teacher, student = self.pair()
        with pytest.raises(ValueError, match=r"share parameters, and head\.weight"):
            lkops.distill_upsampler(teacher, teacher, self.images(1))
        with pytest.raises(ValueError, match="has none"):
            lkops.distill_upsampler(teacher, copy.deepcopy(teacher), self.images(1))
        with pytest.raises(TypeError, match="loader must give tensors"):
            lkops.distill_upsampler(teacher, student, [3])


def test_upsampler_of_several_steps() -> None:
    model = nn.Sequential(default_conv(4, 16), Upsampler(4, 16))
    compressed, report = lkops.compress(model, share=0.5, example_input=image())
    assert [part.place for part in report.compressed] == ["1.0", "1.2"]
    assert isinstance(compressed[1], Upsampler)
