"""Pages: whatever they are told is text, and nothing outside them is asked for."""

import base64
from pathlib import Path

import pytest

from .html_page import Page

pytest.importorskip("jinja2", reason="jinja2 is not installed")

from lkcanet.common.pages import (
    Code,
    Facts,
    Heading,
    Items,
    Picture,
    Table,
    Text,
    picture_of,
    render,
    write_page,
)

EVIL = '</title><script src="https://example.org/x.js">alert(1)</script><img src=x onerror="alert(2)">&amp;\'"'


def test_every_block_escapes_what_it_is_told() -> None:
    picture = Picture(EVIL, "image/png", b"not a picture")
    blocks = [Heading(EVIL), Text(EVIL), Text(EVIL, strong=True), Items([EVIL]), Facts({EVIL: EVIL}), Code(EVIL)]
    blocks += [Table([EVIL], [[EVIL]]), Table([EVIL], [[EVIL]], [EVIL], folded=True, caption=EVIL), picture]
    page = Page(render(EVIL, blocks))
    assert not page.open
    assert "script" not in page.tags
    assert page.tags.count("img") == 1
    assert page.links == [f"data:image/png;base64,{base64.b64encode(b'not a picture').decode()}"]
    assert page.words.count(EVIL) == 14  # title twice; heading, texts, item, facts twice, code, tables, caption
    assert page.attributes.count(("alt", EVIL)) == 1
    assert page.attributes.count(("class", EVIL)) == 1
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_blocks_become_what_they_are() -> None:
    rows = Table(["", "dB"], [["bicubic", "30.1"], ["ours", "31.2"]], ["none", "ours"])
    page = Page(render("A page", [rows, Items([]), Facts({"bands": "31"}), Code("a: 1\n")]))
    assert (page.tags.count("tr"), page.tags.count("th"), page.tags.count("td")) == (3, 2, 4)
    assert "ul" not in page.tags
    assert ("class", "ours") in page.attributes
    assert [page.tags.count(tag) for tag in ("dt", "dd", "pre", "h1", "details")] == [1, 1, 1, 1, 0]
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in str(value))
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_a_name_that_is_no_text_does_not_stop_the_page(tmp_path: Path) -> None:
    name = b"caf\xe9.npy".decode("utf-8", "surrogateescape")
    write_page(tmp_path / "a.html", render(name, [Text(name)]))
    assert Page((tmp_path / "a.html").read_text("utf-8")).words.count("caf?.npy") == 3


def test_figures_are_embedded() -> None:
    figure = pytest.importorskip("matplotlib.figure", reason="matplotlib is not installed").Figure(figsize=(1, 1))
    assert picture_of("a", figure).data.startswith(b"\x89PNG")
    svg = picture_of("a", figure, "svg")
    assert (svg.type, b"<svg" in svg.data) == ("image/svg+xml", True)
