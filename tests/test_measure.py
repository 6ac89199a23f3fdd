"""Benchmarks say what the machine was doing, and refuse a busy one."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import measure


@pytest.fixture
def neighbour():
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    time.sleep(0.3)
    yield process
    process.kill()
    process.wait()


def test_a_busy_neighbour_is_named_and_refused(neighbour, monkeypatch):
    shares = measure.beside()
    assert next(v for k, v in shares.items() if k.startswith(f"{neighbour.pid} ")) > 0.05
    monkeypatch.setattr(sys, "argv", ["benchmark"])
    monkeypatch.setattr(measure, "load", lambda: 0.0)
    with pytest.raises(SystemExit, match=r"not a quiet machine: load 0\.00"):
        measure.parse(argparse.ArgumentParser())
    monkeypatch.setattr(sys, "argv", ["benchmark", "--busy"])
    arguments, conditions = measure.parse(argparse.ArgumentParser())
    assert arguments.busy and conditions["beside"]


def test_a_load_from_before_is_refused(monkeypatch):
    monkeypatch.setattr(measure, "beside", dict)
    monkeypatch.setattr(sys, "argv", ["benchmark"])
    monkeypatch.setattr(measure, "load", lambda: 0.9)
    with pytest.raises(SystemExit, match=r"load 0\.90, below 0\.3 is"):
        measure.parse(argparse.ArgumentParser())
    monkeypatch.setattr(measure, "load", lambda: 0.1)
    assert measure.parse(argparse.ArgumentParser())[1] == {"load_before": 0.1, "beside": {}}
