"""The trained networks that come with the code: small, as stated, and as RESULTS.md's recipes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run

ROOT = Path(__file__).resolve().parent.parent
CARDS = sorted(path for path in (ROOT / "cards").iterdir() if path.is_dir())
CIFAR = ROOT.parent / "shared" / "data" / "cifar10"


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_card_is_small_and_says_what_it_measured(card):
    assert sum(path.stat().st_size for path in card.iterdir()) < 8_000_000
    stated = json.loads((card / "eval.json").read_text())
    text = (card / "README.md").read_text()
    assert f"| test | {stated['examples']:,} | {stated['accuracy']:.2%} |" in text
    assert stated["checkpoint"] == "newest"  # the last epoch, not the best on the test set


def measured(card, *arguments):
    code, out = run("eval.py", "--card", card, *arguments)
    stated = json.loads((card / "eval.json").read_text())
    (line,) = [line for line in out.splitlines() if line.startswith("test: accuracy")]
    accuracy = float(line.split()[2].rstrip("%")) / 100
    assert code == (0 if "agrees with the card" in out else 1), out
    # Another CPU rounds otherwise, and a spike at the threshold can flip: one image in a thousand.
    assert abs(accuracy - stated["accuracy"]) < max(1.01 / stated["examples"], 1e-3), line
    return stated


def test_the_digits_card_measures_as_stated():
    assert measured(ROOT / "cards" / "digits")["accuracy"] > 0.97


@pytest.mark.slow
@pytest.mark.skipif(not (CIFAR / "test_batch.xz").is_file(), reason="CIFAR-10 is not here")
def test_the_cifar10_card_measures_as_stated(tmp_path):
    subprocess.run([sys.executable, CIFAR / "make_python_batches.py", tmp_path], check=True)
    stated = measured(ROOT / "cards" / "cifar10_fast", f"--data_dir={tmp_path}")
    assert stated["examples"] == 10_000 and stated["accuracy"] > 0.9
