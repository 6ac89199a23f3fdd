"""Markdown tables of runs: what their cells hold."""

from statistics import fmean

SAME = {"both": "dalif"}  # two names of one neuron


def percent(values):
    """Mean of shares as percent, with their range."""
    text = f"{100 * fmean(values):.2f}"
    if len(values) > 1:
        text += f" ({100 * min(values):.2f} to {100 * max(values):.2f})"
    return text


def table(head, rows):
    """A Markdown table, a string a line."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)]


def duration(seconds):
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def versions(series):
    """What a series was measured with, "jax 0.10.2"."""
    return f"jax {series['jax']}" if "jax" in series else "version not noted"


def machine(series, run):
    """What a run was trained on; runs that do not say so were trained on the machine's cores."""
    kind = run.get("device") or "1 x cpu"
    return f"{series['cpu']}, {series['cores']} cores" if kind.endswith("cpu") else kind
