"""The HTML page: complete, well formed, needing nothing else, and safe with any name."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from graphkit.report.diffs import DiffReport
from graphkit.report.html import render
from tests.report.diff_reports import MATCH, MISMATCH, is_plain

VOID = {"meta"}


class Page(HTMLParser):
    """Checks that tags nest, and collects the text and the rows of tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open += [] if tag in VOID else [tag]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.mark.parametrize("report", [MATCH, MISMATCH])
def test_it_is_well_formed_and_needs_nothing(report: DiffReport) -> None:
    text = render(report)
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>") and is_plain(text)
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "b"})
    assert re.search(r"(src|href)=|url\(|@import", text) is None


def test_everything_is_in_it() -> None:
    page = Page(render(MISMATCH))
    titles = ("First bad kernel", "Outputs", "Runs", "Coverage", "Notes", "What to do next", "Versions",
              "All 3 tensors, in order", "Tensors with no counterpart", "Most introduced error")  # fmt: skip
    assert all(title in page.text for title in titles)
    assert sum(row[0] == "__myl_b" and row[3:4] == ["introduced"] for row in page.rows) == 1
    assert sum(row[0].startswith("u") for row in page.rows) == 8
    tables = [len(row) for row in page.rows if row[0] == "y"]
    assert tables == [len(next(row for row in page.rows if row[0] == "output"))]


def test_names_are_escaped() -> None:
    text = render(MISMATCH)
    assert "<b>" not in text and "a&lt;b&gt;&amp;" in text
