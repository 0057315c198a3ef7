"""What networks say of themselves: strips, memory, ranks and ONNX of all kinds, or why not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from lkcanet.deploy.compression import compress
from lkcanet.deploy.export import export_onnx
from lkcanet.deploy.rank import rank_report, rank_reports
from lkcanet.inference import memory, reach, strips, super_resolve
from lkcanet.models import CSAKD, Lacking, LKCANet, Network
from lkcanet.models.baselines import CNN3DLR, VDSRLR
from lkcanet.models.capabilities import capabilities_of, working_memory_of
from lkcanet.models.edlgfs import EDLGFS
from lkcanet.models.essaformer import ESSAformer
from lkcanet.models.msdformer import MSDformer
from lkcanet.models.sspsr import SSPSR
from lkcanet.objectives import KDObjective
from lkcanet.objectives.base import Batch
from lkcanet.objectives.distillation import Distillation, check_pair
from lkops.testing import assert_as_good_as_eager

FEW: dict[str, Any] = {"features": 8, "growth": 4, "heads": 2, "head_width": 4}
EDGES: dict[str, Any] = {"channels": 16, "stages": 2, "layers": 1, "spectral_heads": 2, "reduction": 4}
BASELINES = [
    lambda: VDSRLR(6, 3, 16, 2),
    lambda: VDSRLR(9, 2, 64, 3, border="replicate"),
    lambda: CNN3DLR(5, 3),
    lambda: CNN3DLR(7, 2, bicubic=True),
]


def alive(model: Network, seed: int = 0) -> Any:
    """With weights that do something, in eval mode."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("make", BASELINES)
@pytest.mark.parametrize("shape", [(1, 131, 7), (2, 60, 5), (1, 3, 40)])
def test_strips_of_a_local_network_are_the_whole(make: Any, shape: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the rounding of torch's convs: in float64 nothing else is left."""
    monkeypatch.setattr(strips, "STRIP_BYTES", 0)
    model = alive(make())
    image = torch.rand(shape[0], model.bands, *shape[1:])
    told: list[str] = []
    with torch.no_grad():
        expected, exact = model(image), model.double()(image.double())
    result = super_resolve(model, image.double(), progress=lambda _, what: told.append(what))
    torch.testing.assert_close(result, exact, rtol=0, atol=1e-13 * float(exact.abs().max()))
    assert_as_good_as_eager(super_resolve(model.float(), image), expected, exact)
    rows = max(8, 4 * reach(model))
    assert len(told) == 1 + -(-shape[1] // rows)
    assert (len(told) > 2) == (shape[1] > rows)


def test_a_strip_lacks_nothing_and_no_row_is_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receptive field is exact: one row less is another image."""
    monkeypatch.setattr(strips, "STRIP_BYTES", 0)
    for make in BASELINES:
        model = alive(make()).double()
        image = torch.rand(1, model.bands, 120, 6, dtype=torch.float64)
        with torch.no_grad():
            whole = model(image)
        less = model.reach() - 1
        monkeypatch.setattr(type(model), "reach", lambda _, less=less: less)
        assert (super_resolve(model, image) - whole).abs().max() > 1e-9
        monkeypatch.undo()
        monkeypatch.setattr(strips, "STRIP_BYTES", 0)


def test_reach_of_the_baselines() -> None:
    assert reach(VDSRLR(4)) == 20
    assert reach(CNN3DLR(4)) == 4 + 2
    assert reach(VDSRLR(4, depth=0)) == 2
    with pytest.raises(ValueError, match="edlgfs has no reach: its attention sees the whole image"):
        reach(EDLGFS(3, 2, **EDGES))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_pixels_that_are_not_finite_are_found_in_every_band(bad: float) -> None:
    image = torch.rand(1, 6, 8, 5)
    image[0, 4, 6, 3] = bad
    for model in (VDSRLR(6, 2, 8, 1), CNN3DLR(6, 2), EDLGFS(6, 2, **EDGES), LKCANet(6, 2, 16, 1, reduction=8)):
        with pytest.raises(ValueError, match="the image holds NaN or infinite pixels"):
            super_resolve(model, image)
    lowres, msi = torch.rand(1, 6, 4, 4), torch.rand(1, 3, 8, 8)
    msi[0, 2, 7, 7] = bad
    with pytest.raises(ValueError, match="the MSI holds NaN or infinite pixels"):
        super_resolve(CSAKD(6, 3, 2, (0, 0, 0, 0), **FEW), lowres, msi=msi)


def test_what_is_lacking_is_named() -> None:
    edges, fusion = EDLGFS(3, 4, **EDGES), CSAKD(4, 2, 2, (0, 1, 0, 0), **FEW)
    assert strips.why_none(edges) == ["edlgfs can't be computed in strips: its attention sees the whole image"]
    assert strips.why_none(fusion) == ["csakd can't be computed in strips: its attention sums over the whole image"]
    assert strips.why_none(LKCANet(3, 2, 16, 1, reduction=8)) == []
    for model, message in (
        (edges, r"edlgfs has no upsampler: it enlarges in 2 steps \(\[2, 2\]\), not by one conv"),
        (EDLGFS(3, 1, **EDGES), "edlgfs has no upsampler: it enlarges in 0 steps, not by one conv"),
        (fusion, "csakd has no upsampler: it enlarges by interpolation, not by a conv before a PixelShuffle"),
    ):
        with pytest.raises(Lacking, match=message):
            rank_report(model)
    networks: list[Network] = [edges, fusion, VDSRLR(3)]
    for network in networks:
        with pytest.raises(TypeError, match=f"{network.kind} can't be compressed: its config .* takes any network"):
            compress(network, rank=1)
    features = Distillation(on="features")
    with pytest.raises(ValueError, match=r"on='features' can't compare the teacher: edlgfs has no features .*'image'"):
        check_pair(VDSRLR(3, 4), edges, features)
    with pytest.raises(ValueError, match=r"can't compare the student: cnn3d_lr .*: it adds no bicubic image"):
        check_pair(CNN3DLR(3, 4), VDSRLR(3, 4), features)


def test_a_class_that_does_not_inherit_and_says_nothing() -> None:
    class Bare(torch.nn.Conv2d):
        kind, bands, scale, msi_bands = "bare", 3, 1, 0

        def fold(self) -> Any:
            return self

    model: Any = Bare(3, 3, 3, padding=1).eval()
    image = torch.rand(1, 3, 5, 5)
    assert torch.equal(super_resolve(model, image), model(image).detach())
    with pytest.raises(Lacking, match="bare has no estimate of its memory: it names no formula of its activations"):
        memory(model, 5, 5)


def matrix_of(model: Any, weight: Tensor, parameters: int) -> None:
    report = rank_report(model, size=(5, 6))
    values = np.linalg.svd(weight.detach().double().flatten(1).numpy(), compute_uv=False)
    np.testing.assert_allclose(report.singular_values, values, atol=1e-5 * values[0])
    assert report.matrix == (weight.shape[0], weight[0].numel())
    assert report.parameters.upsampler == parameters
    assert report.parameters.total == model.parameter_count()
    assert report.macs.total == model.macs(5, 6)
    assert 0 < report.macs.upsampler < report.macs.total


def test_ranks_of_other_networks() -> None:
    vdsr, cnn, edges = alive(VDSRLR(4, 2, 8, 1)), alive(CNN3DLR(4, 2)), alive(EDLGFS(4, 3, **EDGES))
    matrix_of(vdsr, vdsr.convs[-1].weight, 16 * 8 * 9)
    matrix_of(cnn, cnn.convs[-1].weight[:, :, 1], 16 * 9 * 75 + 16)
    matrix_of(edges, edges.reconstruct.up[0].conv.weight, 16 * 9 * 16 * 9 + 16 * 9)
    assert rank_report(edges, size=(5, 6)).macs.upsampler == 30 * 16 * 9 * 16 * 9


def test_ranks_of_each_step() -> None:
    """Networks that enlarge in several steps: a report each, with what the network's count of multiply-adds holds."""
    pixels = 5 * 6
    edges, msd = alive(EDLGFS(4, 4, **EDGES)), alive(MSDformer(6, 8, 16, 1, group=4, overlap=1, heads=2, reduction=4))
    essa, sspsr = alive(ESSAformer(5, 4, 8)), alive(SSPSR(6, 8, 16, 1, group=4, overlap=1, reduction=4))
    branch, trunk = sspsr.branch[0].upsample, sspsr.trunk.upsample
    cases = [
        (edges, ["step 1", "step 2"], list(edges.reconstruct.up), None),
        (msd, ["step 1", "step 2", "step 3"], list(msd.up), msd.up.macs(pixels)),
        (essa, ["step 1", "step 2"], list(essa.up), 3 * essa.up.macs(pixels)),
        (
            sspsr, ["branch 1", "branch 2", "trunk 1"], [*branch, *trunk],
            len(sspsr.groups) * branch.macs(pixels) + trunk.macs(16 * pixels),
        ),
    ]  # fmt: skip
    for model, names, steps, macs in cases:
        reports = rank_reports(model, size=(5, 6))
        assert list(reports) == names
        for report, step in zip(reports.values(), steps, strict=True):
            values = np.linalg.svd(step.conv.weight.detach().double().flatten(1).numpy(), compute_uv=False)
            np.testing.assert_allclose(report.singular_values, values, atol=1e-5 * values[0])
            assert report.parameters.upsampler == sum(parameter.numel() for parameter in step.parameters())
            assert report.macs.total == model.macs(5, 6)
        if macs is not None:
            assert sum(report.macs.upsampler for report in reports.values()) == macs
    first, second = (report.macs.upsampler for report in rank_reports(edges, size=(5, 6)).values())
    assert second == 4 * first
    vdsr = alive(VDSRLR(4, 2, 8, 1))
    assert rank_reports(vdsr, 0.7) == {"": rank_report(vdsr, 0.7)}
    with pytest.raises(Lacking, match="csakd has no upsampler: it enlarges by interpolation"):
        rank_reports(CSAKD(4, 2, 2, (0, 1, 0, 0), **FEW))


def test_features_of_a_baseline_teach_another_network() -> None:
    """F_UP and the bicubic image add up to the image; LKCA-Net learns from VDSR's."""
    teacher, student = alive(VDSRLR(6, 2, 8, 1)), alive(LKCANet(6, 2, 16, 1, reduction=8), 1)
    x = torch.rand(2, 6, 5, 5)
    for model in (teacher, student):
        added, image = capabilities_of(model).residual_image(x)  # type: ignore[operator]
        torch.testing.assert_close(image, model(x))
        torch.testing.assert_close(image - added, LKCANet(6, 2, 16, 0, reduction=8).eval()(x))
        assert added.abs().max() > 0.01
    check_pair(student, teacher, Distillation(on="features"))
    objective = KDObjective(teacher, Distillation(on="features"))
    loss = objective(student, Batch(x, torch.rand(2, 6, 10, 10)), 0.0)["kd"]
    assert isinstance(loss, Tensor)
    loss.backward()
    assert student.upsample.conv.bias.grad.abs().max() > 0


def peak_of(model: Network, rows: int, columns: int) -> int:
    """Bytes that torch has allocated at once for one image, beside that image, by its profiler."""
    folded = model.fold().eval()
    images = [torch.rand(1, model.bands, rows, columns)]
    if model.msi_bands:
        images.append(torch.rand(1, model.msi_bands, model.scale * rows, model.scale * columns))
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        folded(*images)
    changes: list[tuple[int, int]] = []
    nodes = list(run.profiler.kineto_results.experimental_event_tree())
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if hasattr(node.extra_fields, "alloc_size"):
            changes.append((node.start_time_ns, node.extra_fields.alloc_size))
    sizes = np.cumsum([size for _, size in sorted(changes)])
    return int(sizes.max())


FORMULAS = [
    (lambda: VDSRLR(64, 4, 64, 3), 24, 24),
    (lambda: VDSRLR(16, 2, 64, 3), 40, 40),
    (lambda: CNN3DLR(64, 4), 48, 48),
    (lambda: EDLGFS(16, 4, **{**EDGES, "channels": 64}), 24, 20),
    (lambda: EDLGFS(128, 4, **{**EDGES, "channels": 32}), 20, 20),
    (lambda: EDLGFS(8, 1, **{**EDGES, "channels": 32, "layers": 2, "stages": 3}), 48, 48),
    (lambda: CSAKD(60, 4, 4, (0, 0, 0, 0), **FEW), 24, 24),
    (lambda: CSAKD(60, 4, 4, (0, 0, 0, 0), **FEW, residual=True), 24, 24),
    (lambda: CSAKD(8, 4, 4, (0, 0, 0, 2), features=32, growth=16), 20, 20),
    (lambda: CSAKD(8, 4, 4, (1, 0, 0, 0), features=32, growth=16), 20, 20),
    (lambda: CSAKD(8, 4, 2, (0, 0, 0, 0), features=32, growth=16), 64, 64),
]


@pytest.mark.parametrize(("make", "rows", "columns"), FORMULAS)
def test_working_memory_is_what_torch_allocates(make: Any, rows: int, columns: int) -> None:
    from lkops import backends

    if backends.choose("upsample_add", None, [torch.rand(1)]) != "cpu":
        pytest.skip("a rough figure where no compiled kernels are built")
    model = make()
    said = working_memory_of(model, (1, model.bands, rows, columns), rows)
    measured = peak_of(model, rows, columns)
    assert 0.85 < max(said) / measured < 1.15, (said, measured)
    assert working_memory_of(model, (3, model.bands, rows, columns), rows) == tuple(3 * part for part in said)


def test_memory_of_images_in_one_piece_and_with_an_msi() -> None:
    model = CSAKD(60, 4, 4, (0, 0, 0, 0), **FEW)
    said, mapped = memory(model, 50, 40), memory(model, 50, 40, mapped=True)
    plane = 4 * 50 * 40
    assert said.input == plane * (60 + 4 * 16)
    assert said.output == 60 * 16 * plane
    # the image is there when `output` is filled, not before
    assert said.peak - said.weights - said.input == mapped.upsampling
    assert mapped.upsampling == working_memory_of(model, (1, 60, 50, 40), 50).strip > 2 * said.output
    tiled = memory(model, 50, 40, tile=(20, 20))
    assert tiled.peak < said.peak
    assert memory(VDSRLR(64, 4), 2000, 500, mapped=True).peak < 0.5 * memory(VDSRLR(64, 4), 2000, 500).peak


NETWORKS = [
    lambda: VDSRLR(5, 3, 16, 2),
    lambda: CNN3DLR(4, 2, bicubic=True),
    lambda: EDLGFS(5, 3, **EDGES),
    lambda: EDLGFS(3, 4, **EDGES, attention_scale=None),
    lambda: CSAKD(5, 3, 4, (0, 1, 1, 1), **FEW),
    lambda: CSAKD(5, 3, 3, (1, 0, 0, 0), **FEW, residual=True, upsampling="bicubic"),
    lambda: CSAKD(5, 3, 2, (0, 0, 1, 0), **FEW, legacy_sum=True),
]


@pytest.mark.wide(most=3)
@pytest.mark.parametrize("make", NETWORKS)
def test_onnx_of_every_kind(make: Any, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = alive(make())
    report = export_onnx(model, tmp_path / "net.onnx", opset=13)
    assert len(report.checked) == 5
    assert 0 < report.error <= report.allowed
    graph = onnx.load(tmp_path / "net.onnx")
    assert {node.domain for node in graph.graph.node} == {""}
    properties = {entry.key: entry.value for entry in graph.metadata_props}
    assert properties["kind"] == model.kind
    assert properties.get("msi_bands") == (str(model.msi_bands) if model.msi_bands else None)
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["lowres", *(["msi"] if model.msi_bands else [])]
    for n, rows, columns in ((1, 1, 1), (2, 5, 9), (1, 12, 3)):
        images = [torch.rand(n, model.bands, rows, columns)]
        if model.msi_bands:
            images.append(torch.rand(n, model.msi_bands, model.scale * rows, model.scale * columns))
        given = {name: image.numpy() for name, image in zip(("lowres", "msi"), images, strict=False)}
        with torch.no_grad():
            exact = model.double()(*(image.double() for image in images))
            eager = model.float()(*images)
        assert_as_good_as_eager(torch.from_numpy(session.run(None, given)[0]), eager, exact)
    fixed = export_onnx(model, tmp_path / "fixed.onnx", height=4, width=3)
    assert fixed.inputs == ("batch", model.bands, 4, 3)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_onnx_can_not_hold_is_said(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = CSAKD(5, 3, 2, (0, 0, 0, 0), **FEW, downsampling="antialiased")
    with pytest.raises(Lacking, match="csakd can't be written as ONNX: torch's exporter knows no antialiased"):
        export_onnx(model, tmp_path / "net.onnx")

    class Strange(VDSRLR):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.i1e(super().forward(x))

    with pytest.raises(RuntimeError, match=r"torch can't write the network \(vdsr_lr\) as ONNX: .*i1e"):
        export_onnx(Strange(3, 2, 4, 0), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []
