"""The report of what nvcc makes of the CUDA kernels: that it is of this source, and that its check sees bad kernels."""

import json
from pathlib import Path

import pytest

from bench.without_gpu import cuda_ahead_of_time as aot

SAID = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z1av' for 'sm_90'
ptxas info    : Function properties for _Z1av
    {stack} bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads
ptxas info    : Used 61 registers, used 1 barriers, 128 bytes smem
"""
pytestmark = pytest.mark.skipif(not (aot.ROOT / "csrc").is_dir(), reason="no sources beside these tests")


def row_of(**numbers: int) -> dict:
    facts = aot.kernels(SAID.format(**({"stack": 0, "stores": 0, "loads": 0} | numbers)))["_Z1av"]
    return {"kernel": "a", **{f"sm_{arch}": facts for arch in aot.TARGETS}}


def test_what_ptxas_says_is_read_and_spills_are_problems() -> None:
    clean = row_of()
    assert clean["sm_90"] == {"stack": 0, "spill_stores": 0, "spill_loads": 0, "registers": 61, "shared": 128}
    assert aot.problems(clean) == []
    for spilled in ({"stack": 8}, {"stores": 4}, {"loads": 4}):
        assert len(aot.problems(row_of(**spilled))) == len(aot.TARGETS)
    with pytest.raises(ValueError, match="ptxas says nothing of _Z1bv"):
        aot.kernels("Compiling entry function '_Z1bv' for 'sm_90'\n")


def test_the_report_is_of_this_source_and_free_of_spills() -> None:
    """Told by hashes, so also where no nvcc is."""
    report = aot.read()
    assert aot.stale(report) == []
    assert {row["file"] for row in report["rows"]} == {str(path) for path in aot.sources()}
    assert [reason for row in report["rows"] for reason in aot.problems(row)] == []
    assert all(row[f"sm_{arch}"]["registers"] > 0 for row in report["rows"] for arch in aot.TARGETS)


def test_a_change_of_any_included_file_makes_the_report_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = aot.read()
    (source,) = [path for path in aot.sources() if path.parent.name == "large_kernel_channel_attention"]
    assert {"csrc/common/cuda.cuh", "csrc/depthwise_conv2d/stencil.cuh"} <= {str(path) for path in aot.inputs(source)}
    for path in {p for s in aot.sources() for p in aot.inputs(s)}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((aot.ROOT / path).read_bytes())
    monkeypatch.setattr(aot, "ROOT", tmp_path)
    assert aot.changed(report) == []
    with (tmp_path / "csrc/large_kernel_channel_attention/cuda.cuh").open("a") as file:
        file.write("// changed\n")
    assert aot.changed(report) == [source, Path("csrc/lk_block/cuda.cu")]  # which includes the cascade
    assert "large_kernel_channel_attention/cuda.cu has changed since" in aot.stale(report)[0]


@pytest.mark.exhaustive
@pytest.mark.skipif(aot.compiler() is None, reason="no nvcc on the path or in CUDA_HOME")
@pytest.mark.skipif(
    aot.nvcc_version() != json.loads(aot.REPORT.read_text())["nvcc"] if aot.REPORT.exists() else True,
    reason="the report is of another nvcc",
)
def test_a_file_compiled_again_gives_its_rows() -> None:
    """The smallest file, on one GPU: what the report says is what nvcc does."""
    report = aot.read()
    source = min(aot.sources(), key=lambda path: sum(row["file"] == str(path) for row in report["rows"]))
    facts = aot.compile_for(source, 90)
    names = sorted(facts)
    expected = {row["kernel"]: row["sm_90"] for row in report["rows"] if row["file"] == str(source)}
    assert dict(zip(aot.readable(names), (facts[name] for name in names), strict=True)) == expected
