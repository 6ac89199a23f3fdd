"""Cards by name: from a folder in the layout of a hub's cache, as huggingface_hub keeps them."""

import shutil
import sys
from pathlib import Path

import pytest
from commands import run, train

from dalif_jax.exchange import hub
from dalif_jax.exchange.card import CardError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Environment of a hub without a network that holds somebody/digits."""
    home = tmp_path_factory.mktemp("hub")
    folder = home / "hub" / "models--somebody--digits"
    revision = "0123456789abcdef0123456789abcdef01234567"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(revision)
    shutil.copytree(ROOT / "cards" / "digits", folder / "snapshots" / revision)
    return {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}


def test_a_card_of_a_hub_is_measured_and_agrees(offline):
    code, out = run("eval.py", "--card", "hub:somebody/digits", **offline)
    assert code == 0, out
    assert "agrees with the card: accuracy" in out


def test_a_run_starts_from_a_card_of_a_hub(offline, tmp_path):
    more = ("--config.epochs=1", "--config.model=mini", "--config.init_from=hub:somebody/digits")
    code, out = train(tmp_path, *more, "--dry_run", **offline)
    assert code == 0, out
    assert "card" in out and "models--somebody--digits" in out


def test_what_a_hub_has_not_is_one_line(offline):
    code, out = run("eval.py", "--card", "hub:somebody/nothing", **offline)
    assert code == 2 and "Traceback" not in out, out
    assert "error: hub:somebody/nothing cannot be had: " in out


def test_a_card_of_a_hub_is_converted_by_its_name(offline, tmp_path):
    more = ("--to", "folded", "--export", str(tmp_path / "x"))
    code, out = run("convert.py", "--source", "hub:somebody/digits", *more, **offline)
    assert code == 2 and "no norms on its membranes" in out, out  # of the card that was fetched


@pytest.mark.parametrize("name", ["hub:", "hub:digits", "hub:a/b/c", "hub:a/b@", "hub:a b/c"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(CardError, match="hub:OWNER/NAME"):
        hub.fetch(name)


def test_without_the_library_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CardError, match="pip install huggingface_hub"):
        hub.fetch("hub:somebody/digits")
