"""Every operator has all that CONTRIBUTING.md, "A new operator", asks for, and asks for no more than it says."""

import inspect
import re
from pathlib import Path

import pytest

import lkops
import lkops.nn
from bench.cpu.rows import rows
from lkops import backends, testing
from tests.lkops.ops.harness import cases, runs
from tests.rooms import ROOT

every_operator = pytest.mark.parametrize("name", backends.operators())
MOST_FILES, MOST_EDITS = 8, 4


def recipe() -> tuple[list[str], list[str]]:
    """The files to write and the places to edit, from CONTRIBUTING.md; `<name>` stands for the operator's."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text[text.index("## A new operator") :].split("\n## ")[0]
    files, edits = section.split("Edits:")
    return re.findall(r"^\d+\. `([^`]+)`", files, re.MULTILINE), re.findall(r"^\d+\. `([^`]+)`", edits, re.MULTILINE)


def test_a_new_operator_is_few_files_and_edits() -> None:
    files, edits = recipe()
    assert 0 < len(files) <= MOST_FILES
    assert 0 < len(edits) <= MOST_EDITS
    assert all((ROOT / edit).exists() for edit in edits)


@every_operator
def test_its_files_are_where_the_recipe_says(name) -> None:
    kernels = testing.operator(name).kernels
    for file in recipe()[0]:
        if ("triton" in file and "triton" not in kernels) or ("csrc" in file and "cpu" not in kernels):
            continue
        assert (ROOT / file.replace("<name>", name)).exists(), file


@every_operator
def test_nothing_else_is_named_after_it(name) -> None:
    """What belongs to one operator lies in its rooms: the test of its kernels in Python may have any name."""
    known = {Path(file.replace("<name>", name)) for file in recipe()[0]}
    rooms = [Path("lkops/ops") / name, Path("csrc") / name]
    for place in ("lkops", "csrc", "bench", "lkcanet"):
        for path in sorted((ROOT / place).rglob("*")):
            file = path.relative_to(ROOT)
            if path.is_file() and file.stem == name and file not in known and "__pycache__" not in file.parts:
                allowed = file.parts[:2] == ("csrc", "bindings") or file.parents[0] in rooms  # headers, CUDA's binding
                assert allowed, file


@every_operator
def test_it_has_a_reference_and_a_docstring_of_the_form(name) -> None:
    operator = testing.operator(name)
    assert inspect.getdoc(inspect.getmodule(operator.reference)), "the reference says what it is"
    assert operator.function is getattr(lkops, name)
    assert name in lkops.__all__
    text = inspect.getdoc(operator.function) or ""
    for part in ("Args:", "Raises:", "Source:", "backend: see `lkops.backends`", "(N, C, H, W)"):
        assert part in text, part
    assert re.search(r"^    .*=", text, re.MULTILINE), "the formula stands on lines of its own"
    others = (inspect.getdoc(getattr(lkops, other)) or "" for other in backends.operators() if f"`{other}`" in text)
    told = "\n".join((text, *others))  # "as `large_kernel_channel_attention` takes them"
    for parameter in inspect.signature(operator.function).parameters:
        assert re.search(rf"\b{parameter}\b", told), parameter


@every_operator
def test_it_has_examples_of_every_use(name) -> None:
    known = testing.examples(name)
    names = [case.name for case in known.cases]
    assert len(set(names)) == len(names)
    assert {case.use for case in known.cases} == {"small", "awkward", "large", "benchmark"}
    assert known["plain"].use == "small"
    assert min(case.shape[0] for case in known.cases) == 0, "an empty batch is among them"
    tensors = known.arguments(known["plain"])
    assert set(known.data) <= set(known.images) <= set(tensors)
    for case in known.of("benchmark"):
        assert known.work(case, 4).bytes > known.work(case, 2).bytes > 0
    with pytest.raises(KeyError, match="no example 'huge'; there are plain"):
        known["huge"]


@every_operator
def test_its_eager_form_computes_the_same(name) -> None:
    """On all sizes of use, made small, in float64."""
    known = testing.examples(name)
    for case in (known["plain"], *(example.tiny() for example in known.of("benchmark"))):
        tensors = known.arguments(case)
        right = testing.invoke(name, tensors, case.options, "reference")
        got = testing.as_tuple(known.eager(**tensors, **case.options))
        for ours, truth in zip(got, right, strict=True):
            assert float((ours - truth).abs().max()) <= 1e-9 * float(truth.abs().max()), case.name


@every_operator
def test_the_contract_runs_it_on_every_backend(name) -> None:
    operator = testing.operator(name)
    here = {backend for operator_name, backend, _, _ in runs() if operator_name == name}
    assert "reference" in here
    assert here <= {"reference", *operator.kernels}
    assert cases(name)


@every_operator
def test_it_has_a_module_a_benchmark_row_and_a_line_in_the_docs(name) -> None:
    modules = {key.lower(): value for key, value in vars(lkops.nn).items() if inspect.isclass(value)}
    assert name.replace("_", "") in modules, "lkops.nn has a module of its name"
    assert any(row.title.startswith(name) for row in rows(tiny=True))
    assert re.search(rf"^\|.*`{name}` \(`", (ROOT / "docs" / "operators.md").read_text(), re.MULTILINE)


def test_a_name_that_is_no_operator() -> None:
    with pytest.raises(KeyError, match="no operator 'unknown'; there are "):
        testing.operator("unknown")
