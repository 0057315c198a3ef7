"""What the pages say, in pieces: their blocks of code and their command lines."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        language: as after the fence.
        text: its lines.
        line: of the page, where it begins.
    """

    language: str
    text: str
    line: int


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in these languages, in order."""
    whole = page.read_text()
    found = [Block(match[1], match[2], whole[: match.start()].count("\n") + 2) for match in _BLOCK.finditer(whole)]
    return [block for block in found if block.language in languages]


def command_lines(page: Path) -> list[list[str]]:
    """The commands of its shell blocks, as words; comments are left out, `a && b` is two."""
    lines = []
    for block in blocks(page, "sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while "&&" in words:
                at = words.index("&&")
                lines.append(words[:at])
                words = words[at + 1 :]
            lines += [words] if words else []
    return lines
