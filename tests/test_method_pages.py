"""A page for every row of every table and a row for every page, as its docstring has it."""

import json
import re

import pytest

from ablations import docstrings, method_pages
from dalif_jax.settings import config

REGENERATE = "python -m ablations.method_pages writes it anew"
METHODS = [(kind, name) for kind in docstrings.TABLES for name in docstrings.names(kind)]


def test_every_row_has_its_page_and_every_page_its_row():
    pages = {path.stem for path in method_pages.FOLDER.glob("*.md")} - {"README"}
    assert pages == {f"{kind}-{name}" for kind, name in METHODS}, REGENERATE
    assert json.loads(method_pages.COUNTS.read_text()).keys() == set(docstrings.names("network"))


def test_pages_are_made_of_docstrings_and_committed_figures():
    for path, text in method_pages.pages().items():
        assert path.read_text() == text, f"{path.name}: {REGENERATE}"


@pytest.mark.parametrize(("kind", "name"), METHODS, ids=lambda value: value)
def test_the_command_of_a_page_is_one_that_trains(kind, name):
    words, settings = method_pages.command(kind, name)
    assert settings[method_pages.KEYS[kind]] == name and f"runs/{name}" in words
    config.find(settings)
    config.validate(settings, 1)


@pytest.mark.slow
def test_parameters_of_networks_are_counted():
    counted = {name: list(count) for name, count in method_pages.counts().items()}
    assert counted == json.loads(method_pages.COUNTS.read_text())


DOCSTRING = """A neuron (Somebody, 2020): it fires. Sometimes.

    h[t] = x[t]
      more

Words of [B, T].

Args:
  x: not for readers

Paper: https://example.org/1

Certainty: code. It was
read.

Differences:
  1. From the paper: one
     thing.
  2. Another.
"""


def test_a_docstring_is_taken_apart():
    about = docstrings.parsed(DOCSTRING, "here", "a.py")
    assert about.lead == "A neuron (Somebody, 2020): it fires."
    assert about.text == ("Sometimes.\n\n```text\nh[t] = x[t]\n  more\n```\n\nWords of [B, T].")
    assert (about.certainty, about.rests_on) == ("code", "It was read.")
    assert about.paper == "https://example.org/1"
    assert about.differences == ["1. From the paper: one thing.", "2. Another."]
    none = re.sub(r"Differences:.*", "Differences: none known.", DOCSTRING, flags=re.DOTALL)
    assert docstrings.parsed(none, "here", "a.py").differences == []


@pytest.mark.parametrize(("wrong", "said"), [
    (DOCSTRING.replace("Certainty: code", "Certainty: sure"), "here: Certainty: is 'sure', none"),
    (DOCSTRING.replace("Differences:", "Others:"), "here says no Differences:"),
])  # fmt: skip
def test_a_docstring_without_them_is_refused(wrong, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        docstrings.parsed(wrong, "here", "a.py")
