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
    """A Markdown table, a string a line; a bar within a cell does not end it."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    cells = ([str(cell).replace("|", "\\|") for cell in row] for row in rows)
    return [*lines, *("| " + " | ".join(row) + " |" for row in cells)]


def duration(seconds):
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def versions(series, runs=None):
    """What runs, of a series all, were measured with, "jax 0.10.2"."""
    heads = [run.get("machine", series) for run in (series["runs"] if runs is None else runs)]
    of = dict.fromkeys(head.get("jax") for head in heads or [series])
    known = " and ".join(name for name in of if name)
    return f"jax {known}" if known else "version not noted"


def machine(series, runs):
    """What runs were trained on; those that do not say so were trained on the machine's cores.

    Processors of one name and of several kinds are told apart: each rounds in its own way.
    """
    kinds = {}
    for run in runs:
        name, kind = one_machine(series, run)
        kinds.setdefault(name, {})[kind] = None  # a set in the order of the runs

    def told(of):
        return f" ({' and '.join(kind or 'kind not noted' for kind in of)})" if len(of) > 1 else ""

    return " and ".join(name + told(of) for name, of in kinds.items())


def one_machine(series, run):
    """(name, kind) of what a run was trained on."""
    device, head = run.get("device") or "1 x cpu", run.get("machine", series)
    if not device.endswith("cpu"):
        return device, ""
    family, _, model = head.get("cpu_kind", "").partition(" ")
    return f"{head['cpu']}, {head['cores']} cores", family and f"family {family} model {model}"


def by_name(runs):
    """{name of a setting: its runs that ended, over seeds}, in the order of the series."""
    found = {}
    for run in ended(runs):
        found.setdefault(run["name"], []).append(run)
    return found


def names_of(runs):
    """Names of the settings, in the order of the series, those whose runs failed too."""
    return list(dict.fromkeys(run["name"] for run in runs))


def ended(runs):
    """The runs that did not fail."""
    return [run for run in runs if "failed" not in run]


def keys_of(run):
    """{key: text} that a run's command sets."""
    return dict(word.removeprefix("--config.").split("=", 1) for word in run["command"][3:])


def firing_rate(run):
    """Spikes per neuron and timestep, mean over layers."""
    return fmean(run["firing_rates"].values())


def energies(runs, digits=3):
    """Energy of an example by both rules, uJ, "paper / exact", mean of runs."""
    return " / ".join(energy(runs, rule, digits) for rule in ("paper", "exact"))


def energy(runs, rule="exact", digits=3):
    """Energy of an example by one rule, uJ, mean of runs."""
    mean = fmean(run["energy_uj"][rule] for run in runs)
    # Of as many digits before its point as asked for, or more, it needs no exponent.
    return f"{mean:,.0f}" if mean >= 10**digits else f"{mean:.{digits}g}"
