"""The ahead-of-time report: that it is of this source, that its check sees bad kernels, and when a row is kept."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import triton

import lkops.triton
from bench.without_gpu import ahead_of_time
from bench.without_gpu.ahead_of_time import REPORT, TARGETS, Reached, problems
from bench.without_gpu.compiled import code_of
from lkops.triton import Choice

ROOT = Path(__file__).parents[3]


def compiling(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs Python where Triton compiles: in this process it may interpret."""
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *command], env=env, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.skipif(
    json.loads(REPORT.read_text())["triton"] != triton.__version__, reason="the report is of another Triton"
)
@pytest.mark.exhaustive
def test_the_report_is_of_this_source_and_has_no_problems() -> None:
    before = REPORT.read_bytes()
    done = compiling("-m", "bench.without_gpu.ahead_of_time", "--check", "--sample", "8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 compiled now, 0 problems" in done.stdout
    assert REPORT.read_bytes() == before


KERNELS = """
import triton
import triton.language as tl
from lkops.triton.device import dot

@triton.jit
def good(x_ptr, y_ptr, PRECISION: tl.constexpr, WIDE: tl.constexpr, SIDE: tl.constexpr):
    i = tl.arange(0, SIDE)[:, None] * SIDE + tl.arange(0, SIDE)[None, :]
    x = tl.load(x_ptr + i)
    if WIDE:
        x = x.to(tl.float32)
    y = dot(x, x, tl.zeros((SIDE, SIDE), tl.float32), PRECISION)
    tl.store(y_ptr + i, y.to(y_ptr.dtype.element_ty))

@triton.jit
def spilling(x_ptr, y_ptr, SIDE: tl.constexpr):
    i = tl.arange(0, SIDE)[:, None] * SIDE + tl.arange(0, SIDE)[None, :]
    x = tl.load(x_ptr + i)
    tl.store(y_ptr + i, x * tl.sum(tl.sum(x, 1), 0))

@triton.jit
def broken(x_ptr, y_ptr):
    tl.store(y_ptr, no_such_name)
"""

COMPILE = """
import json, sys, torch
sys.path.insert(0, sys.argv[1])
from bad import triton_kernels as bad
from bench.without_gpu import ahead_of_time
from lkops.triton import launch, watch

def check(name, kernel, kind, dtype, **constants):
    x, reached = torch.empty(1 << 14, dtype=dtype, device="meta"), ahead_of_time.Reached()
    with watch(lambda launch: reached.add(launch, kind), run=False):
        launch(kernel, (1,), x, x, **constants)
    (row,), (one,) = reached.rows.values(), reached.launches.values()
    row = {**row, **ahead_of_time.compile_row(one)}
    print(json.dumps({"name": name, "row": row, "problems": ahead_of_time.problems(row)}))

half, full = torch.float16, torch.float32
check("good", bad.good, "float16", half, PRECISION="ieee", WIDE=False, SIDE=64)
check("tf32", bad.good, "tf32", full, PRECISION="tf32", WIDE=False, SIDE=64)
check("ieee", bad.good, "float32", full, PRECISION="ieee", WIDE=False, SIDE=32)
check("widened", bad.good, "float16", half, PRECISION="ieee", WIDE=True, SIDE=32)
check("large", bad.good, "tf32", full, PRECISION="tf32", WIDE=False, SIDE=128, num_warps=8)
check("spilling", bad.spilling, "float32", full, SIDE=128, num_warps=1)
check("broken", bad.broken, "float32", full)
"""


@pytest.fixture(scope="module")
def bad(tmp_path_factory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "bad").mkdir()
    (folder / "bad" / "triton_kernels.py").write_text(KERNELS)
    (folder / "compile.py").write_text(COMPILE)
    done = compiling(str(folder / "compile.py"), str(folder))
    assert done.returncode == 0, done.stderr
    return {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.exhaustive
def test_good_kernels_pass_with_tensor_cores_of_each_target(bad) -> None:
    for name, kind in (("good", "f16"), ("tf32", "tf32")):
        assert bad[name]["problems"] == []
        rows = {arch: bad[name]["row"][f"sm_{arch}"] for arch in TARGETS}
        assert {arch: row["matrix"] for arch, row in rows.items()} == {
            80: ["HMMA"],
            90: ["HGMMA"],
            100: ["UTCHMMA"],
            120: ["HMMA"],
        }
        for row in rows.values():
            assert row["products"] == [kind]
            assert row["loads"].keys() == {"128"}
            assert row["registers"] > 0
    assert bad["good"]["row"]["kernel"] == "bad.good"
    assert bad["ieee"]["problems"] == []
    assert bad["ieee"]["row"]["sm_90"]["without"] == ["f32"]


@pytest.mark.exhaustive
def test_bad_kernels_are_caught_on_each_target(bad) -> None:
    for name, reason in (("spilling", "spilling instructions"), ("widened", "runs in full float32")):
        found = bad[name]["problems"]
        assert [f"sm_{arch}" for arch in TARGETS] == [problem.partition(":")[0] for problem in found]
        assert all(reason in problem for problem in found)
    assert "sm_120: 131072 bytes of shared memory, 101376 are there" in bad["large"]["problems"]
    assert bad["broken"]["problems"][0].startswith("does not compile: CompilationError")


def row(**facts) -> dict:
    """A row of a half product as it should be, with other facts on sm_90."""
    fine = {"registers": 40, "products": ["bf16"], "matrix": ["HMMA"]}
    rest = {"kernel": "room.kernel", "kinds": ["bfloat16"], "arguments": "", "constants": "", "options": "", "key": "k"}
    changed = {k: v for k, v in {**fine, **facts}.items() if v}
    return {**rest, **{f"sm_{arch}": changed if arch == 90 else fine for arch in TARGETS}}


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"stack": 8}, "8 bytes of stack"),
        ({"spills": 3}, "3 spilling"),
        ({"shared": 227 * 1024 + 1}, "232449 bytes of shared memory, 232448 are there"),
        ({"tensor_memory": 1024}, "1024 columns"),
        ({"matrix": []}, "bf16 does not run on tensor cores"),
        ({"without": ["bf16"]}, "bf16 does not run on tensor cores"),
        ({"products": ["f32"], "matrix": []}, "full float32"),
        ({"products": ["tf32"], "matrix": []}, "tf32 does not run"),
    ],
    ids=str,
)
def test_each_problem_has_its_reason(facts, reason, monkeypatch) -> None:
    assert problems(row()) == []
    (found,) = problems(row(**facts))
    assert found.startswith("sm_90: ")
    assert reason in found
    if "tensor cores" in found:
        monkeypatch.setattr(ahead_of_time, "DELIBERATE", {"room.kernel": "it is tiny"})
        assert problems(row(**facts)) == []


SOURCE = """
import triton
import triton.language as tl

FACTOR = tl.constexpr(2)

@triton.jit
def inner(x):
    return x * FACTOR

@triton.jit
def kernel(x_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(x_ptr + i, inner(tl.load(x_ptr + i)))

@triton.jit
def other(x_ptr):
    tl.store(x_ptr, 1)
"""


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("    return x * FACTOR", "    # doubled\n    return x * FACTOR", False),
        ("    i = tl", '    """What it does."""\n    i  =  tl', False),
        ("tl.store(x_ptr, 1)", "tl.store(x_ptr, 2)", False),
        ("import triton\n", "import triton\n\nUNUSED = 1\n", False),
        ("return x * FACTOR", "return FACTOR * x", True),
        ("constexpr(2)", "constexpr(3)", True),
        ("arange(0, BLOCK)", "arange(0, BLOCK) + 1", True),
    ],
    ids=str,
)
def test_a_row_is_kept_through_comments_and_not_through_code(tmp_path, old, new, changed) -> None:
    def code(name: str, text: str) -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("scratch", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return code_of(module.kernel)

    assert old in SOURCE
    before, after = code("before", SOURCE), code("after", SOURCE.replace(old, new))
    assert (before != after) is changed


def test_functions_of_other_modules_count() -> None:
    from lkops.ops.channel_attention import triton_kernels

    code = json.loads(code_of(triton_kernels.scale_kernel))
    assert {name.rpartition(".")[2] for name in code} == {"scale_kernel", "hidden_of", "scale_of", "total"}
    assert not any('"""' in text or "#" in text for text in code.values())


def test_entries_that_no_shape_reaches_are_named() -> None:
    reached = Reached()
    all_of = [
        Choice(kernel, kind, entry["up_to"] or 10**9)
        for kernel, kinds in lkops.triton.table().items()
        for kind, entries in kinds.items()
        for entry in entries
    ]
    for choice in all_of[1:]:
        reached.choose(choice)
    (missed,) = reached.missed()
    assert missed.startswith(f"{all_of[0].kernel} {all_of[0].kind} up_to {all_of[0].work}: ")
    reached.choose(all_of[0])
    assert reached.missed() == []


def test_a_report_of_other_code_or_an_edited_one_is_stale(tmp_path) -> None:
    path, kept = tmp_path / "report.json", {"k": row()}
    reached = Reached(rows={"k": {k: v for k, v in row().items() if not k.startswith("sm_")}})
    path.write_text(ahead_of_time.as_json(kept.values()))
    assert ahead_of_time.read(path) == kept
    assert "report.md is not" in ahead_of_time.stale(kept, reached, path)[0]
    path.with_suffix(".md").write_text(ahead_of_time.as_text(list(kept.values())))
    assert ahead_of_time.stale(kept, reached, path) == []
    assert "1 launches are missing" in ahead_of_time.stale({}, reached, path)[0]
    assert "1 are of other code" in ahead_of_time.stale({**kept, "old": row()}, reached, path)[0]
    assert "other launches" in ahead_of_time.stale({"k": {**row(), "kernel": "room.other"}}, reached, path)[0]
    assert "is not what the rows say" in ahead_of_time.stale({"k": row(registers=41)}, reached, path)[0]


@pytest.mark.exhaustive
def test_an_edited_row_is_caught_when_it_is_compiled_again(tmp_path) -> None:
    rows = json.loads(REPORT.read_text())["rows"]
    for one in rows:
        one["sm_80"]["registers"] += 1
    path = tmp_path / "report.json"
    path.write_text(ahead_of_time.as_json(rows))
    path.with_suffix(".md").write_text(ahead_of_time.as_text(ahead_of_time.sorted_rows(rows)))
    done = compiling("-m", "bench.without_gpu.ahead_of_time", "--check", "--sample", "1", "--out", str(path))
    assert done.returncode == 1
    assert "compiled again it differs from the report" in done.stdout


def test_it_does_not_run_in_the_interpreter() -> None:
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "bench.without_gpu.ahead_of_time"],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "TRITON_INTERPRET is set" in done.stderr
