"""The site: every page whole, at work without a kernel, and asking nobody for anything."""

import json
import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

for needed in ("playwright", "myst_nb", "sphinx_book_theme"):
    pytest.importorskip(needed, reason=f"the test of the site needs {needed}: pip install -e '.[dev]'")

from experiments import browser, notebooks, site  # noqa: E402
from experiments.results import ROOT  # noqa: E402

PAGES = [path.stem for path in notebooks.notebooks()]
WIDGETS = [path.stem for path in notebooks.notebooks() if "widgets" in json.loads(path.read_text())["metadata"]]
needs_browser = pytest.mark.skipif(browser.browser_path() is None, reason="there is no Chromium or Chrome here")
# Equations that were not typeset, and TeX that nobody recognised.
UNSET = r"""() => {
  const page = document.querySelector('article').cloneNode(true);
  page.querySelectorAll('pre, code, script, .widget-subarea').forEach(e => e.remove());
  const bare = [...document.querySelectorAll('.math')].filter(e => !e.querySelector('mjx-container'));
  return [...bare.map(e => e.textContent), ...(page.textContent.match(/\$\$|\\\(|\\frac/g) || [])];
}"""
# Numbers the explorers of a page that have a slider.
NUMBER = """() => [...document.querySelectorAll('.widget-subarea')].filter(e => e.querySelector('.noUi-handle'))
  .map((e, i) => e.dataset.explorer = i).length"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site, built once."""
    folder = tmp_path_factory.mktemp("site") / "site"
    try:
        site.build(folder)
    except site.NoScripts as missing:
        pytest.skip(str(missing))
    return folder


@pytest.fixture(scope="module")
def opened(built):
    """A browser, and what its console complains of or its pages ask for that is not in the site."""
    wrong: list[str] = []
    inside = (built.as_uri(), "data:", "blob:")
    with browser.page(wrong) as page:
        page.on("request", lambda r: None if r.url.startswith(inside) else wrong.append(f"asks for {r.url}"))
        yield page, wrong


@pytest.fixture
def sheet(opened):
    """The browser's page; whatever was wrong meanwhile is told."""
    page, wrong = opened
    wrong.clear()
    yield page
    assert wrong == []


class Links(HTMLParser):
    """What a page fetches, what it leads to, the places in it, and the words of its pictures."""

    def __init__(self, text: str):
        super().__init__()
        self.fetched: set[str] = set()
        self.leads: set[str] = set()
        self.places: set[str] = set()
        self.pictures: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.pictures.append(dict(attrs).get("alt") or "")
        for name, value in attrs:
            if value and name == "id":
                self.places.add(value)
            elif value and name in ("src", "href"):
                (self.leads if tag == "a" else self.fetched).add(value)


def dead_links(folder: Path) -> list[str]:
    """What leads nowhere within a site, or is fetched from outside it."""
    paths = [path for path in folder.rglob("*.html") if "_static" not in path.parts]  # the theme's templates
    pages = {path.relative_to(folder).as_posix(): Links(path.read_text()) for path in paths}
    wrong = []
    for name, page in pages.items():
        wrong += [f"{name} fetches {url}" for url in page.fetched if re.match("(https?:)?//", url)]
        for url in page.leads | page.fetched:
            parts = urlsplit(url)
            if parts.scheme or url.startswith("//"):
                continue
            to = (
                posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path))) if parts.path else name
            )
            there = (folder / to).is_file() and not to.startswith("..")
            if not there or (parts.fragment and to in pages and unquote(parts.fragment) not in pages[to].places):
                wrong.append(f"{name} leads to {url}")
    return wrong


def test_the_link_checker_sees_what_is_wrong(tmp_path):
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1>')
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">x</a><a href="b.html#gone">x</a><a href="c.html">x</a><a href="https://arxiv.org">x</a>'
        '<img src="../out.png"><script src="https://cdn.example/x.js"></script><link href="//cdn.example/x.css">'
    )
    told = {line.split()[-1] for line in dead_links(tmp_path)}
    assert told == {"b.html#gone", "c.html", "../out.png", "https://cdn.example/x.js", "//cdn.example/x.css"}


def test_no_link_is_dead_and_nothing_is_fetched_from_outside(built):
    assert dead_links(built) == []


def test_every_notebook_has_its_page_and_can_be_taken_along(built):
    index = Links((built / "index.html").read_text())
    for path in notebooks.notebooks():
        assert f"notebooks/{path.stem}.html" in index.leads
        taken = f"_sources/notebooks/{path.name}"
        assert (built / taken).read_bytes() == path.read_bytes()
        assert f"../{taken}" in Links((built / "notebooks" / f"{path.stem}.html").read_text()).leads


def test_links_into_the_source_lead_to_the_source(built):
    page = (built / "notebooks" / "07_classifier_free_guidance.html").read_text()
    assert "../source/imagen_lite/guidance.py.html" in Links(page).leads
    shown = re.sub("<[^>]+>", "", (built / "source" / "imagen_lite" / "guidance.py.html").read_text())
    assert "def classifier_free_guidance(" in shown
    folder = Links((built / "source" / "imagen_lite" / "text.html").read_text())
    assert "text/encoder.py.html" in folder.leads


def test_pictures_have_words(built):
    """Those that Sphinx makes up are names of files."""
    for path in (built / "notebooks").glob("[0-9]*.html"):
        words = Links(path.read_text()).pictures
        assert words and all(alt and "_images/" not in alt for alt in words), path.name


@needs_browser
@pytest.mark.parametrize("name", ["index", "README", "docs/claims", *(f"notebooks/{page}" for page in PAGES)])
def test_a_page_is_whole_on_a_phone(sheet, built, name):
    sheet.set_viewport_size({"width": 390, "height": 844})
    sheet.goto((built / f"{name}.html").as_uri())
    if sheet.locator(".math").count():
        sheet.wait_for_selector("mjx-container")
        sheet.evaluate("MathJax.startup.promise")
    assert sheet.evaluate(UNSET) == []
    pictures = "[...document.querySelectorAll('article img')]"
    sheet.evaluate(f"{pictures}.forEach(i => i.loading = 'eager')")
    sheet.wait_for_function(f"{pictures}.every(i => i.complete)")
    assert sheet.evaluate(f"{pictures}.filter(i => !i.naturalWidth).map(i => i.src)") == []
    assert sheet.evaluate("document.documentElement.scrollWidth") <= 390


@needs_browser
@pytest.mark.parametrize("name", WIDGETS)
def test_the_explorers_react_without_a_kernel(sheet, built, name):
    sheet.set_viewport_size({"width": 1280, "height": 1000})
    sheet.goto((built / "notebooks" / f"{name}.html").as_uri())
    sheet.wait_for_selector(".widget-subarea .jupyter-widgets")
    for number in range(sheet.evaluate(NUMBER)):
        keys = ("ArrowLeft", "ArrowRight")  # one of them: a slider may stand at an end
        moved = (sheet.evaluate(browser.MOVE, [f"[data-explorer='{number}']", key]) for key in keys)
        assert any(took is not None for took in moved), f"explorer {number} of {name} shows the same picture"


@needs_browser
def test_the_guidance_explorer_is_among_them(sheet, built):
    sheet.goto((built / "notebooks" / "07_classifier_free_guidance.html").as_uri())
    sheet.wait_for_selector(".il-explorer .il-screen img")
    assert len(browser.moves(sheet, ".il-explorer", count=6)) == 6
    assert (
        sheet.locator(".il-explorer .widget-text input").first.evaluate("e => getComputedStyle(e).pointerEvents")
        == "none"
    )


@needs_browser
def test_the_search_finds_without_a_server(sheet, built):
    sheet.set_viewport_size({"width": 1280, "height": 1000})
    sheet.goto((built / "index.html").as_uri())
    sheet.keyboard.press("Control+k")
    sheet.locator("input[name=q]:visible").first.fill("dynamic thresholding")
    sheet.keyboard.press("Enter")
    sheet.wait_for_selector("#search-results li a")
    sheet.wait_for_function("document.querySelector('.search-summary')?.textContent.includes('finished')")
    found = [link.get_attribute("href") for link in sheet.locator("#search-results li a").all()]
    assert found[0].startswith("notebooks/08_thresholding.html")


@pytest.mark.parametrize("npm", [None, "#!/bin/sh\nexit 1\n"], ids=["no npm", "no network"])
def test_without_npm_or_its_network_one_sentence_says_so(tmp_path, monkeypatch, npm):
    if npm:
        (tmp_path / "npm").write_text(npm)
        (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(site, "SITE", ROOT / "build" / "never")
    with pytest.raises(SystemExit, match="npm") as left:
        site.main()
    assert isinstance(left.value.code, str) and "\n" not in left.value.code  # which python prints, and exits with 1
    assert not site.SITE.exists()
