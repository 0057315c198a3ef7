"""Recipes: those of the package are whole and equal the papers', mistakes in a file are named."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lkcanet.data import PROTOCOLS
from lkcanet.data.bands import bands_by_number
from lkcanet.evaluation.printed import printed
from lkcanet.evaluation.reported import reported
from lkcanet.models import PRESETS
from lkcanet.objectives import HObjective
from lkcanet.objectives.edlgfs import EdgeDistillation
from lkcanet.reproduce import Budget, listing, load, names, plan
from lkcanet.reproduce.loader import read
from lkcanet.reproduce.plan import runs_of
from lkcanet.reproduce.running import objective_of

# as their numbers run in the papers
TABLES = {"lkca-net": 7, "edlgfs": 11, "csakd": 4}
FIGURES = {"lkca-net": 8, "edlgfs": 11, "csakd": 12}


@pytest.mark.parametrize("paper", TABLES)
def test_every_table_and_figure_is_listed(paper: str) -> None:
    expected = [f"table-{n + 1}" for n in range(TABLES[paper])] + [f"figure-{n + 1}" for n in range(FIGURES[paper])]
    found = listing(paper)
    assert [each.what for each in found] == expected
    for each in found:
        assert bool(each.runs) != bool(each.why), f"{each.what}: runs something, or says why not"
        assert each.title


@pytest.mark.parametrize("paper", names())
def test_recipes_of_the_package_can_be_planned(paper: str) -> None:
    loaded = load(paper)
    for entry in loaded.entries.values():
        if entry.why or entry.kind == "weights":
            continue
        cells = plan(loaded, entry)
        assert {cell.row.name for cell in cells} >= {row.name for row in entry.rows}
        for run in runs_of(cells):
            assert loaded.protocol(run.data) is not None or run.data in loaded.sets
            assert run.preset in PRESETS


@pytest.mark.parametrize(("paper", "digits", "tolerance", "least"), [("lkca-net", 3, 0.0, 36), ("edlgfs", 2, 4e-4, 5)])
def test_networks_have_the_papers_counts(paper: str, digits: int, tolerance: float, least: int) -> None:
    """Wherever a paper prints parameters and MACs, the network of the recipe has them."""
    loaded, compared = load(paper), 0
    for entry in loaded.entries.values():
        for cell in [] if entry.why else plan(loaded, entry):
            if cell.printed is None or cell.printed.parameters is None or not cell.runs:
                continue
            with torch.device("meta"):
                model = cell.runs[0].make()
            assert round(model.parameter_count() / 1e6, digits) == cell.printed.parameters, (entry.name, cell.row.name)
            macs = model.macs(*entry.macs_size) / 1e9
            assert macs == pytest.approx(cell.printed.macs, rel=tolerance, abs=6e-4), (entry.name, cell.row.name)
            compared += 1
    assert compared >= least


def test_csakds_networks_have_the_papers_counts() -> None:
    """Its tables cut digits off. Teachers are what trains along with their students."""
    loaded, compared = load("csakd"), 0

    def printed_as(value: float, text: str) -> bool:
        return f"{value:.9f}".startswith(text if "." in text else f"{text}.")

    for name in ("table-1", "table-4"):
        for cell in plan(loaded, loaded.entry(name)):
            if cell.printed is None or cell.printed.parameters is None or not cell.runs:
                continue
            with torch.device("meta"):
                model = cell.runs[0].make()
                if cell.row.along:
                    model = objective_of(cell.runs[0], model).companions()[cell.row.along]
            assert printed_as(model.parameter_count() / 1e6, f"{cell.printed.parameters:g}"), cell.row.name
            assert printed_as(model.macs(64, 64) / 1e9, f"{cell.printed.macs:g}"), cell.row.name
            compared += 1
    assert compared == 6 + 4


def test_csakds_recipe() -> None:
    loaded = load("csakd")
    cells = {(cell.row.name, cell.response): cell for cell in plan(loaded, loaded.entry("table-1"))}
    student = cells["Proposed-Student", "landsat-tm-4"].runs[0]
    assert student.id == cells["Proposed-Teacher", "landsat-tm-4"].runs[0].id  # they train together
    assert student.options.psf_sigma == 3.0
    assert student.options.steps == 600 * -(-1678 // student.options.batch_size)
    assert student.make().msi_bands == 4
    ext = cells["Proposed-Student-L-Ext", "landsat-tm-6"].runs[0]
    assert ext.start.id == cells["Proposed-Student-L", "landsat-tm-6"].runs[0].id
    assert (ext.make().msi_bands, ext.options.learning_rate, ext.options.steps) == (6, 5e-5, 40 * 420)
    assert cells["Proposed-Student", "landsat-tm-6"].printed.values["psnr_peak"] == 39.153
    rows = plan(loaded, loaded.entry("table-3"), rows=["Student, lambda_2 = 0.5", "Student, naive"])
    naive, second = (objective_of(cell.runs[0], cell.runs[0].make()).weights for cell in rows)
    assert (second.sam_weight, second.beba_weight, second.of_teacher().sam_weight) == (0.5, 0.1, 0.1)
    assert naive.of_teacher().sam_weight == naive.feature_weight == 0.0
    removed = [*range(1, 11), *range(104, 117), *range(152, 171), *range(215, 225)]
    kept = bands_by_number(loaded.sets["aviris"].file_bands["224"], 224)
    assert (kept + 1).tolist() == [band for band in range(1, 225) if band not in removed]
    assert len(kept) == loaded.sets["aviris"].bands


def test_the_recipe_is_the_papers() -> None:
    loaded = load("lkca-net")
    cells = {(cell.row.name, cell.scale): cell for cell in plan(loaded, loaded.entry("table-5"))}
    run = cells["LKCA-KD", 4].runs[0]
    assert (run.options.learning_rate, run.options.final_learning_rate) == (2e-3, 2e-4)
    assert (run.options.sam_weight, run.options.gradient_weight, run.options.floor) == (0.5, 0.1, 0.0)
    kd = run.distillation
    assert kd is not None
    assert (kd.alpha, kd.decay, kd.frequency) == (0.01, 0.66, 10)
    assert (kd.cosine_weight, kd.sam_weight, kd.gradient_weight) == (0.5, 0.5, 0.1)
    assert run.teacher is not None
    assert run.teacher.set["blocks"] > run.set["blocks"]


def test_equal_runs_are_one() -> None:
    """Tables II to IV share their student of d = 0.66 and alpha = 0.01, and all one teacher, Table I's of 32 blocks."""
    loaded = load("lkca-net")
    cells = [cell for name in ("table-2", "table-3", "table-4") for cell in plan(loaded, loaded.entry(name))]
    runs = runs_of(cells)
    assert len(runs) == 1 + 4 + 4 + 1  # a teacher, and what differs of 4 + 5 + 2 rows
    assert runs[0].set["blocks"] == 32
    deep = plan(loaded, loaded.entry("table-1"), rows=["32"])[0].runs[0]
    assert deep.id == runs[0].id
    assert plan(loaded, loaded.entry("table-1"), Budget(minutes=1), rows=["32"])[0].runs[0].id != deep.id
    assert plan(loaded, loaded.entry("table-1"), Budget(threads=1), rows=["32"])[0].runs[0].id == deep.id
    seeds = plan(loaded, loaded.entry("table-1"), Budget(seeds=2), rows=["32"])[0].runs
    assert len({run.id for run in seeds}) == 2


def test_what_a_run_depends_on_is_in_its_name(recipe: Callable[..., Path]) -> None:
    """Networks, data, options, objectives, how it is distilled and by which teacher."""
    loaded = load("edlgfs")
    ids = [run.id for run in runs_of(plan(loaded, loaded.entry("table-7")))]
    assert len(set(ids)) == 4
    run = read(recipe())
    (cell,) = plan(run, run.entry("table-1"), rows=["KD"], bands={"small": 6})
    changes = [
        ("an option", "floor = 0.0\nlearning_rate = 1e-3", "floor = 0.0"),
        ("alpha", "alpha = 0.2", "alpha = 0.1"),
        ("the teacher", "[networks.net]\ntraining = { steps = 7 }", "[networks.net]"),
        ("blur", "blur = 0.5", 'place = "nowhere"'),
    ]
    for what, new, old in changes:
        other = read(recipe((old, new)))
        (changed,) = plan(other, other.entry("table-1"), rows=["KD"], bands={"small": 6})
        assert changed.runs[0].id != cell.runs[0].id, what


def test_what_a_version_lacks_is_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("lkca-net")
    monkeypatch.delitem(PRESETS, "vdsr_lr")
    cells = {cell.row.name: cell for cell in plan(loaded, loaded.entry("table-5"), scales=[4])}
    assert "vdsr_lr" in cells["VDSR"].why
    assert not cells["VDSR"].runs
    assert cells["VDSR"].printed is not None
    assert "not VDSR" in next(each.runs for each in listing("lkca-net") if each.what == "table-5")


def test_printed_tables_are_not_typed_twice() -> None:
    for table, protocol in (("table-5", "chikusei"), ("table-6", "houston2018"), ("table-7", "pavia_center")):
        for scale in (4, 8):
            rows = printed("lkca-net", table, scale)
            assert {row.method: row.scores for row in reported(protocol, scale)} == {
                name: row.values for name, row in rows.items()
            }
    assert printed("lkca-net", "table-9") == {}


def test_the_ablations_meet_the_tables() -> None:
    """Table I's 16 blocks are Table V's LKCA-Net; d = 0.66, alpha = 0.01 and all terms are its LKCA-KD."""
    five = printed("lkca-net", "table-5", 4)
    assert printed("lkca-net", "table-1")["16"] == five["LKCA-Net"]
    for table, row in (("table-2", "d = 0.66"), ("table-3", "alpha = 0.010"), ("table-4", "SAM, gradient, cosine")):
        values = printed("lkca-net", table)[row].values
        assert values == {key: five["LKCA-KD"].values[key] for key in values}


@pytest.mark.parametrize("paper", names())
def test_printed_rows_are_rows(paper: str) -> None:
    """A row of a table that has printed ones is named as they are, or it would stand beside nothing."""
    loaded = load(paper)
    for entry in loaded.entries.values():
        response = entry.responses[0] if entry.responses else None
        rows = printed(paper, entry.printed or entry.name, entry.scales[0] if entry.scales else None, response)
        if rows and not entry.why and entry.kind == "scores" and paper != "edlgfs":
            assert {row.name for row in entry.rows} <= rows.keys(), entry.name


MISTAKES = {
    "a key of a network": (('preset = "lkca_net"', 'presett = "lkca_net"'), r"\[networks.net\] has an unknown key 'p"),
    "a training option": (("batch_size = 2", "batchsize = 2"), r"\[training\] has an unknown key 'batchsize'"),
    "its value": (("batch_size = 2", "batch_size = 0"), r"\[training\]: batch_size must be a whole number, 1 or more"),
    "a row's network": (('"bicubic", "net",', '"bicubic", "nett",'), r"table-1\]: row 2: network must be one of bicub"),
    "a teacher": (('teacher = "net"', 'teacher = "nut"'), r"\[networks.KD\]: teacher must be one of"),
    "a distillation": (("{ alpha = 0.1 }", "{ alfa = 0.1 }"), r"KD\].distillation has an unknown key 'alfa'"),
    "a kind": (('kind = "rank"', 'kind = "rang"'), r"figure-1\]: kind must be one of scores, rank"),
    "no scales": (("scales = [2]\nrows = [\"net\", {", "rows = [\"net\", {"), r"table-2\]: scales must be"),
    "a value's kind": (('title = "Ranks"', "title = 3"), r"figure-1\]: title must be a text, got 3"),
    "no TOML": (('title = "Ranks"', "title ="), "no TOML"),
    "a text for a table": (("[networks.bicubic]", "[networks]\nbicubic = 1"), r"networks.bicubic\] must be a table"),
    "a set": (("[networks.bicubic]", "[sets]\nother = 3\n[networks.bicubic]"), r"sets.other\] must be a table, got 3"),
    "a number for sets": (('title = "A tiny paper"', 'title = "A"\nsets = 3'), "sets must be a table, got 3"),
    "a key at the top": (('source = "this test"', 'sauce = "this test"'), "has an unknown key 'sauce'"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str, recipe: Callable[..., Path]) -> None:
    change, expected = MISTAKES[mistake]
    file = recipe(change)
    with pytest.raises(ValueError, match=expected) as error:
        read(file)
    assert str(file) in str(error.value)


def test_arguments_that_a_network_has_not_are_named(recipe: Callable[..., Path]) -> None:
    loaded = read(recipe(("set = { channels = 16, blocks = 1, reduction = 8 }", "set = { chanels = 16 }")))
    with pytest.raises(ValueError, match=re.escape("[entries.table-2]: row 'net'") + ".*chanels"):
        plan(loaded, loaded.entry("table-2"), bands={"small": 6})


def test_a_file_is_utf_8_by_whatever_editor(recipe: Callable[..., Path]) -> None:
    file = recipe(("A tiny paper", "Ein kleiner Aufsatz über Größe"))
    file.write_bytes(b"\xef\xbb\xbf" + file.read_text().encode())
    assert read(file).title == "Ein kleiner Aufsatz über Größe"


def test_wrong_names_list_the_choices(tiny) -> None:
    with pytest.raises(ValueError, match="lkca-net, cave, csakd"):
        load("lkcanet")
    with pytest.raises(ValueError, match="table-1, table-2, figure-1, figure-2"):
        tiny.entry("table-3")
    with pytest.raises(ValueError, match="--rows must be among 'bicubic', 'net'"):
        plan(tiny, tiny.entry("table-1"), rows=["nett"], bands={"small": 6})
    with pytest.raises(ValueError, match="--scale must be one of 2"):
        plan(tiny, tiny.entry("table-1"), scales=[4], bands={"small": 6})
    with pytest.raises(ValueError, match="'small' is no protocol"):
        plan(tiny, tiny.entry("table-1"))
    assert "small" not in PROTOCOLS


def test_edlgfs_trains_on_what_its_rows_say() -> None:
    loaded = load("edlgfs")
    cells = {cell.row.name: cell for cell in plan(loaded, loaded.entry("table-7"))}
    runs = {name: cell.runs[0] for name, cell in cells.items() if cell.runs}
    assert runs["EDLGFS"].options.psf_sigma == pytest.approx(4 * 0.4247)
    made = {}
    for name, run in runs.items():
        with torch.device("meta"):
            made[name] = objective_of(run, run.make())
    assert isinstance(made["without edge distillation"], HObjective)
    assert set(made["without edge distillation"].weights.values()) == {0.0}
    assert isinstance(made["EDLGFS"], EdgeDistillation)
    learnt = {name: any(p.requires_grad for p in each.parameters()) for name, each in made.items()}
    assert learnt == {
        "without edge distillation": False, "without LGFS": True, "fixed weights": False, "EDLGFS": True,
    }  # fmt: skip
    assert runs["EDLGFS"].options.orientations == 4
    assert runs["EDLGFS"].options.total_steps(4 * 320) == 100 * 4 * 320 / 32
    spoilt = {cell.row.name: cell.runs[0] for cell in plan(loaded, loaded.entry("table-11"))}
    assert spoilt["none"].id == runs_of(plan(loaded, loaded.entry("table-9"), rows=["5 x 5, 3 x 3"]))[0].id
    assert len({run.id for run in spoilt.values()}) == 3
    for name, given in (("Gaussian noise", {"snr": 30.0}), ("random values", {"impulses": 0.01})):
        assert spoilt[name].tested == given
        assert {key: getattr(spoilt[name].options, key) for key in given} == given


@pytest.mark.parametrize("name", ["edlgfs-houston", "edlgfs-pavia", "edlgfs-chikusei"])
def test_splits_of_edlgfs(name: str) -> None:
    """Its sections 4.3 to 4.5: how many test images, and overlaps of 44, 52 and 24."""
    protocol = load("edlgfs").protocols[name]
    count, overlap = {"edlgfs-houston": (4, 44), "edlgfs-pavia": (4, 52), "edlgfs-chikusei": (8, 24)}[name]
    assert len(protocol.tests) == count
    assert protocol.patches == dict.fromkeys((2, 4, 8), (64, 64 - overlap))
    test, train = protocol.test, protocol.train
    assert test.bottom <= train.top or test.right <= train.left
    assert train.bottom <= protocol.size[0]
    assert train.right <= protocol.size[1]
