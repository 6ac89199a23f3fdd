"""What the docstring beside each method says of it, taken apart for its page.

A method's docstring begins with its name and paper, has its equations indented, and closes with
`Paper:`, `Certainty:` and `Differences:` (CONTRIBUTING.md). Nothing of it is written twice.
"""

import functools
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import NamedTuple

from ablations import systems
from dalif_jax import networks, neurons, surrogates

PACKAGE = Path(neurons.__file__).resolve().parent.parent
# The words of `Certainty:`.
LEVELS = {
    "code": "checked against the authors' public code",
    "paper": "the paper's equations",
    "secondary": "what others report of the paper",
    "unverified": "as remembered",
    "stand-in": "a formula of ours in the place of one that is not public",
    "ours": "not of a paper",
}
TABLES = systems.TABLES | {"network": networks.NETWORKS}
# Sections that tell callers, not readers of a page.
CALLERS = re.compile(r"^(Args|Returns|Raises|Attributes)\b.*:")


class About(NamedTuple):
    """What a docstring says of a method.

    lead: its first sentence. text: Markdown, what follows, equations as blocks. paper: a link or
    "". certainty: a key of LEVELS, rests_on: the sentences behind it. differences: Markdown lines.
    file: of the docstring, from the package's folder.
    """

    lead: str
    text: str
    paper: str
    certainty: str
    rests_on: str
    differences: list
    file: str


def names(kind):
    """The rows of a table that are a method; None stands for none."""
    return [name for name, row in TABLES[kind].items() if row is not None]


@functools.cache
def of(kind, name):
    """The About of a method.

    Raises:
      ValueError: its docstring has no `Certainty:` of a known level, or no `Differences:`.
    """
    found = source(kind, name)
    file = Path(inspect.getsourcefile(found)).resolve().relative_to(PACKAGE)
    return parsed(inspect.getdoc(found), f"{kind} {name} ({file})", str(file))


def source(kind, name):
    """What the docstring is of: a module, a class or a function."""
    row = TABLES[kind][name]
    if kind == "neuron":
        return next(m for m in modules(neurons) if any(value is row for value in vars(m).values()))
    if kind == "norm":
        return row.module
    if kind == "loss":
        return row.about
    if kind == "surrogate":
        still = surrogates.Surrogate._field_defaults["width_at"]
        return row.derivative if row.width_at is still else row.width_at
    return inspect.getmodule(getattr(row, "func", row))


def modules(package):
    """The files of a package, but for its table and what it gives away."""
    every = [name for _, name, _ in pkgutil.iter_modules(package.__path__) if name != "table"]
    return [importlib.import_module(f"{package.__name__}.{name}") for name in every]


def parsed(docstring, where, file):
    """The About of a docstring; `where` is for errors."""
    blocks, kept, closing = paragraphs(docstring), [], {}
    for block in blocks:
        word, colon, rest = block.partition(":")
        if colon and word in ("Paper", "Certainty", "Differences"):
            closing[word] = rest.strip("\n") if word == "Differences" else " ".join(rest.split())
        elif not CALLERS.match(block):
            kept.append(block)
    level, _, rests_on = closing.get("Certainty", "").partition(". ")
    level = level.rstrip(".")
    if level not in LEVELS:
        raise ValueError(f"{where}: Certainty: is {level!r}, none of {', '.join(LEVELS)}")
    if "Differences" not in closing:
        raise ValueError(f"{where} says no Differences:; `none known.` where there is none")
    first = " ".join(kept[0].split())
    lead = re.match(r".*?[.](?= [A-Z]|$)", first)
    lead = lead.group() if lead else first
    rest = first[len(lead) :].strip()
    told = "\n\n".join(filter(None, [rest, *map(markdown, kept[1:])]))
    return About(
        lead, told, closing.get("Paper", ""), level, " ".join(rests_on.split()),
        numbered(closing["Differences"]), file,
    )  # fmt: skip


def paragraphs(docstring):
    """Blocks between empty lines; an empty line before what is indented does not end a section."""
    blocks = []
    for block in re.split(r"\n\s*\n", docstring.strip("\n")):
        indented = block.startswith(" ")
        section = blocks and re.match(r"[A-Z][a-z ]+:", blocks[-1]) and "\n  " in blocks[-1]
        if indented and section:
            blocks[-1] += "\n\n" + block
        else:
            blocks.append(block)
    return blocks


def markdown(block):
    """A paragraph, or a block of code where it is indented."""
    if not block.startswith(" "):
        return block
    margin = min(len(line) - len(line.lstrip()) for line in block.splitlines() if line.strip())
    return "\n".join(["```text", *(line[margin:] for line in block.splitlines()), "```"])


def numbered(text):
    """The lines of a numbered list; [] where nothing is known."""
    items = re.split(r"^\s*\d+\.\s+", text, flags=re.MULTILINE)[1:]
    return [f"{number}. {' '.join(item.split())}" for number, item in enumerate(items, 1)]


def meanings(kind, name):
    """{option: the comment behind its field} of a method's own options."""
    row = TABLES[kind][name]
    holder = {"neuron": "options", "loss": "options", "norm": "module"}.get(kind)
    found = getattr(row, holder) if holder else getattr(row, "func", row)
    out = {}
    for one in reversed(inspect.getmro(found)):
        if one.__module__.startswith("dalif_jax"):
            field = r"^ +(\w+): [^#\n]*?# (.+)$"
            out |= dict(re.findall(field, inspect.getsource(one), re.MULTILINE))
    return out
