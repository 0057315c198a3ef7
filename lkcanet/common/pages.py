"""Pages of HTML that refer to nothing outside themselves: one skeleton for all reports.

A page is a title and blocks. Whatever it is told (names of files, errors, options) is escaped by jinja2; pictures are
embedded, and the page's own policy forbids the browser to fetch anything.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lkcanet.common.files import atomic_path
from lkcanet.common.optional import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Block",
    "Code",
    "Facts",
    "Heading",
    "Items",
    "Picture",
    "Table",
    "Text",
    "picture_of",
    "render",
    "write_page",
]

TYPES = {"png": "image/png", "svg": "image/svg+xml"}


@dataclass(frozen=True)
class Heading:
    """A line above what follows."""

    text: str
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    strong: bool = False
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Items:
    """A list; nothing where it is empty."""

    items: Sequence[str]
    kind: ClassVar[str] = "items"


@dataclass(frozen=True)
class Facts:
    """Names and what they are, a line each."""

    facts: Mapping[str, str]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings.

    Attributes:
        head: of each column.
        rows: each of as many cells.
        classes: of each row, for its looks: "ours" is bold, "difference" grey; none where empty.
        folded: shown only when its caption is clicked.
        caption: of a folded table.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    classes: Sequence[str] = ()
    folded: bool = False
    caption: str = ""
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Code:
    """Text of a file, as it is."""

    text: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        title: what it shows, for those who do not see it.
        type: such as "image/png".
        data: the file's bytes.
    """

    title: str
    type: str
    data: bytes
    kind: ClassVar[str] = "picture"

    @property
    def source(self) -> str:
        """A data URL."""
        return f"data:{self.type};base64,{base64.b64encode(self.data).decode()}"


Block = Heading | Text | Items | Facts | Table | Code | Picture

TEMPLATE = """\
{%- macro table(block) -%}
<div class="wide"><table>
<tr>{% for cell in block.head %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in block.rows -%}
<tr{% if block.classes %} class="{{ block.classes[loop.index0] }}"{% endif %}>
{%- for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor -%}
</table></div>
{%- endmacro -%}
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#222;background:#fff}
h1,h2,p,li,td{overflow-wrap:anywhere}
.wide{overflow-x:auto}
table{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums}
td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}
td:first-child,th:first-child{text-align:left}
tr.ours td{font-weight:600}tr.difference td{color:#666}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15em 1.2em;margin:1em 0}
dt{color:#666}dd{margin:0;overflow-wrap:anywhere}
pre{background:#f6f6f6;padding:.8em 1em;overflow-x:auto;font-size:13px}
summary{cursor:pointer;margin:1em 0}
img{max-width:100%;display:block;margin:1em 0}
</style></head><body>
<h1>{{ title }}</h1>
{% for block in blocks -%}
{% if block.kind == "heading" %}<h2>{{ block.text }}</h2>
{% elif block.kind == "text" %}<p>{% if block.strong %}<strong>{{ block.text }}</strong>
{%- else %}{{ block.text }}{% endif %}</p>
{% elif block.kind == "items" %}{% if block["items"] %}<ul>
{% for item in block["items"] %}<li>{{ item }}</li>
{% endfor %}</ul>
{% endif %}{% elif block.kind == "facts" %}<dl>
{% for name, value in block.facts.items() %}<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}</dl>
{% elif block.kind == "table" %}{% if block.folded %}<details><summary>{{ block.caption }}</summary>
{{ table(block) }}</details>
{% else %}{{ table(block) }}
{% endif %}{% elif block.kind == "code" %}<pre>{{ block.text }}</pre>
{% elif block.kind == "picture" %}<img alt="{{ block.title }}" src="{{ block.source }}">
{% endif %}{% endfor -%}
</body></html>
"""


@cache
def _template() -> Any:
    jinja2 = require("jinja2", extra="io")
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(TEMPLATE)


def render(title: str, blocks: Sequence[Block]) -> str:
    """The page as HTML. Texts are escaped; a character that is no text (a file's name may hold such) becomes "?"."""
    page: str = _template().render(title=title, blocks=blocks)
    return page.encode("utf-8", "replace").decode()


def write_page(path: Path, page: str) -> None:
    """What `render` gave, to a file that is whole or as it was."""
    with atomic_path(path) as temporary:
        temporary.write_text(page, "utf-8")


def picture_of(title: str, figure: "Figure", suffix: str = "png") -> Picture:
    """A matplotlib figure as a picture, "png" or "svg" (curves; images are smaller as PNG)."""
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix)
    return Picture(title, TYPES[suffix], buffer.getvalue())
