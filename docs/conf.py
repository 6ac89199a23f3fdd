"""The site: every page of docs/, and the API from docstrings.

sphinx-build -W --keep-going docs runs/site     # then open runs/site/index.html
"""

import re
import sys
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dalif_jax import __version__  # noqa: E402  after the path

project = "dalif_jax"
author = "The dalif_jax authors"
copyright = author
version = release = __version__
html_title = f"dalif_jax {release}"

extensions = ["myst_parser", "sphinx.ext.apidoc", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["**/__pycache__"]
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False

# Links between pages as they are on a code host, to headings too; a dead one is a warning.
myst_heading_anchors = 4
myst_enable_extensions = ["strikethrough"]

# The API: every module, in the order of its source.
apidoc_modules = [
    {
        "path": str(ROOT / "dalif_jax"), "destination": "api", "separate_modules": True,
        "module_first": True, "no_headings": False, "max_depth": 2,
    }
]  # fmt: skip
autodoc_default_options = {"members": True, "member-order": "bysource", "ignore-module-all": True}
autodoc_typehints = "none"
default_role = "code"
napoleon_use_ivar = True  # fields of a dataclass stand once


INDENTED = re.compile(r"^(?: {4}|\t)\S")
# name: what it is, at the margin, going on two spaces in: how fields of a NamedTuple are told of.
FIELD = re.compile(r"^[a-z_]+(, [a-z_]+)*: ")
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Differences)\b.*:$")


def plain(line):
    """A line of prose with what reStructuredText would read as markup escaped."""
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*|\\])|(?<=\w)(_)(?!\w)", r"\\\g<0>", part)
        for part in parts
    )


def as_restructured(app, what, name, obj, options, lines):
    """Docstrings here are plain text: what is indented outside of a section is shown as it is."""
    out, shown, section = [], False, False
    fields = any(a and FIELD.match(a) and re.match(r"  \S", b) for a, b in pairwise([*lines, ""]))
    for before, line in pairwise(["", *lines]):
        if line and not line.startswith(" "):
            section = bool(SECTION.match(line))
        inside = bool(line) and line.startswith("    ") and not section
        if inside and not shown:
            out += ([] if not before else [""]) + [".. code-block:: text", ""]
        if shown and line and not inside:
            out.append("")
        shown = inside or (shown and not line)
        mark = "* " if fields and FIELD.match(line) else ""
        out.append(line if shown else mark + plain(line))
    lines[:] = out


# Pages of the checkout that are none of the site: offered as the files they are.
OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+(?:[a-z]+/)?(?:README|RESULTS|CONTRIBUTING)\.md)\)")


def prepared(app, page, source):
    """Links to Markdown outside of docs/, which myst would look for among the pages; contents of
    the methods."""

    def link(match):
        words, target = match.groups()
        inside = ROOT / "docs" in ((ROOT / "docs" / page).parent / target).resolve().parents
        return match.group() if inside else f"{{download}}`{words} <{target}>`"

    source[0] = OUTSIDE.sub(link, source[0])
    if page == "methods/README":  # its own tables are the contents that a reader sees
        source[0] += "\n\n```{toctree}\n:hidden:\n:glob:\n\n*-*\n```\n"


def setup(app):
    app.connect("source-read", prepared)
    # Before napoleon, which reads the sections of what this leaves.
    app.connect("autodoc-process-docstring", as_restructured, priority=400)
