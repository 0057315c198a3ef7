"""What the site has besides docs/: the tables of bench/results, CONTRIBUTING.md and CHANGELOG.md, where they stand.

Pages link to them as they lie in the repository (`../bench/results/cpu.md`), so that both the site and a reader of the
repository find them.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
FOLDER = "results"
LINK = re.compile(r"(\]\()(?:\.\./)?(bench/results/|CONTRIBUTING\.md|CHANGELOG\.md|docs/|examples/)")
SOURCES = "(?:examples|csrc)/"  # in the repository alone: shown by name


def on_config(config: Any) -> Any:
    """The tables' entries of the navigation."""
    for entry in config.nav:
        if "All tables" in entry:
            entry["All tables"] = [f"{FOLDER}/{path.name}" for path in sorted(RESULTS.glob("*.md"))]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Tables and pictures, and the two pages."""
    for path in sorted(RESULTS.iterdir()):
        files.append(File.generated(config, f"{FOLDER}/{path.name}", abs_src_path=str(path)))
    for source, name in PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links into the repository become links of the site."""
    depth = "../" * page.file.src_uri.count("/")

    def there(match: re.Match[str]) -> str:
        target = match[2]
        return match[1] + depth + PAGES.get(target, "" if target == "docs/" else f"{FOLDER}/")

    return LINK.sub(there, _named(markdown))


def _named(markdown: str) -> str:
    """A link to an example or to C++, which are not part of the site, becomes its name."""
    return re.sub(rf"\[([^\]]+)\]\((?:\.\./)?({SOURCES}[^)]*)\)", r"\1 (`\2`)", markdown)
