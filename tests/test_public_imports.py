"""Every public name imports from the path that it had before its module moved into a room."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from lkops._core.moved import EARLIEST

ROOT = Path(__file__).parents[1]
NAMES = json.loads(Path(__file__).with_name("public_imports.json").read_text())


@pytest.mark.filterwarnings("ignore:.*old path:DeprecationWarning")
@pytest.mark.parametrize("module", NAMES)
def test_names_keep_their_paths(module: str) -> None:
    found = import_module(module)
    missing = [name for name in NAMES[module] if not hasattr(found, name)]
    assert not missing


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lkcanet.metrics", "lkcanet.evaluation.metrics"),
        ("lkcanet.data.envi", "lkcanet.data.formats.envi"),
        ("lkops.losses.reference", "lkops.ops.spectral_losses.reference"),
    ],
)
def test_an_old_path_gives_the_same_module_and_says_so(old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} is {new} now; version {EARLIEST} ") as seen:
        assert import_module(old) is import_module(new)
    assert {warning.filename for warning in seen} == {__file__}, "the line that imports"


def test_an_old_room_is_an_attribute_too() -> None:
    code = "import lkops; lkops.attention.large_kernel_channel_attention; print(hasattr(lkops, 'attention_'))"
    command = [sys.executable, "-W", "default", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
    assert "<string>:1: DeprecationWarning: lkops.attention is lkops.ops.large_kernel_channel_attention" in done.stderr


def test_the_changelog_tells_what_goes_when() -> None:
    deprecated = (ROOT / "CHANGELOG.md").read_text().partition("### Deprecated\n")[2].partition("\n### ")[0]
    for package in ("lkops", "lkcanet"):
        assert f"- {EARLIEST}: modules of `{package}`" in deprecated
