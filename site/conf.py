"""How Sphinx makes the site; `experiments/site.py` runs it on the pages, gathered in one folder.

Notebooks are shown with the outputs they were committed with and are never executed. What links to a file or a folder
that is no page here leads to a page that shows it as it is.
"""

import ast
import html
import json
import posixpath
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parent.parent
TEXTS = {".py", ".json", ".md", ".txt", ".toml", ".yml", ".css", ".ipynb", ".jsonl", ""}  # what can be shown as it is
LINK = re.compile(r'<a href="(?![a-z]+:|#)[^>]*>(.*?)</a>', re.DOTALL)  # to a file beside the notebook

project = "imagen_lite"
author = "the imagen_lite authors"
html_title = "imagen_lite"
extensions = ["myst_nb", "sphinx.ext.githubpages"]
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# All that the pages ask for lies beside them.
mathjax_path = "tex-svg-full.js"
nb_ipywidgets_js = {"widgets.js": {"defer": "defer"}, "embed.js": {"defer": "defer"}}
html_css_files = ["site.css"]
html_js_files = ["site.js"]

html_theme = "sphinx_book_theme"
html_theme_options = {"use_fullscreen_button": False, "show_toc_level": 2, "navbar_persistent": []}
html_context = {"default_mode": "auto"}
html_sourcelink_suffix = ""  # the button of a notebook gives it as it was committed
html_show_sphinx = False
html_use_index = False


def prepare_outputs(app: Sphinx, docname: str, source: list[str]) -> None:
    """Gives pictures the words that their outputs carry, and unlinks files that only a run of the notebook writes."""
    if app.env.doc2path(docname).suffix != ".ipynb":
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        shown = [form for output in cell.get("outputs", []) for form in output.get("metadata", {}).values()]
        alt = "; ".join(form["alt"] for form in shown if isinstance(form, dict) and "alt" in form)
        if alt:
            cell["metadata"].setdefault("mystnb", {})["image"] = {"alt": alt}
        for data in (output.get("data", {}) for output in cell.get("outputs", [])):
            if "text/html" in data:
                data["text/html"] = LINK.sub(r"\1", "".join(data["text/html"]))
    source[0] = json.dumps(notebook)


class SourceLinks(SphinxTransform):
    """Turns links to what is no page here into links to pages that show it, and remembers these."""

    default_priority = 5  # before Sphinx gathers downloads

    def apply(self, **_: Any) -> None:
        """Look at every link of a text."""
        wanted = self.app.env.__dict__.setdefault("shown_sources", set())
        here = self.env.docname
        for node in [
            *self.document.findall(addnodes.download_reference),
            *self.document.findall(addnodes.pending_xref),
        ]:
            target = node["reftarget"].partition("#")[0]
            path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
            if node.get("refdomain") == "doc" or path.startswith("..") or not target or not _can_be_shown(ROOT / path):
                continue
            wanted.add(path)
            uri = self.app.builder.get_relative_uri(here, f"source/{path}")
            node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=True))


def _can_be_shown(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and path.suffix in TEXTS)


def source_pages(app: Sphinx):
    """The files and folders that something links to, each as a page of its own."""
    todo = sorted(app.env.__dict__.get("shown_sources", ()))
    done = set()
    while todo:
        path = todo.pop(0)
        if path in done:
            continue
        done.add(path)
        if (ROOT / path).is_dir():
            inside = [p for p in sorted((ROOT / path).iterdir()) if _can_be_shown(p) and p.name[0] not in "._"]
            todo += [f"{path}/{p.name}" for p in inside]
            body = _listing(app, path, inside)
        else:
            body = _highlighted(app, path)
        body = f'<div class="il-source"><h1>{html.escape(path)}</h1>{body}</div>'
        yield f"source/{path}", {"title": path, "body": body}, "page.html"


def _listing(app: Sphinx, path: str, inside: list[Path]) -> str:
    """The folder's own words, and its files, each with the first line it says of itself."""
    rows = []
    for file in inside:
        uri = app.builder.get_relative_uri(f"source/{path}", f"source/{path}/{file.name}")
        rows.append(f'<li><a href="{uri}">{html.escape(file.name)}</a> {_said(file)}</li>')
    return f"<p>{_said(ROOT / path)}</p><ul>{''.join(rows)}</ul>"


def _said(file: Path) -> str:
    """The first line of what a module says of itself."""
    own = file / "__init__.py" if file.is_dir() else file
    if own.suffix != ".py" or not own.exists():
        return ""
    line = (ast.get_docstring(ast.parse(own.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return re.sub("`(.+?)`", r"<code>\1</code>", html.escape(line))


def _highlighted(app: Sphinx, path: str) -> str:
    text = (ROOT / path).read_text(encoding="utf-8")
    try:
        language = get_lexer_for_filename(path).aliases[0]
    except ClassNotFound:
        language = TextLexer.aliases[0]
    return app.builder.highlighter.highlight_block(text, language, linenos="inline", force=True)


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("source-read", prepare_outputs)
    app.connect("html-collect-pages", source_pages)
    app.add_transform(SourceLinks)
