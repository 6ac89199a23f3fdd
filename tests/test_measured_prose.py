"""Figures of speed, memory and reliability in sentences are those of the committed JSON."""

import json
import re
from operator import sub, truediv
from pathlib import Path
from statistics import fmean

import pytest

ROOT = Path(__file__).resolve().parent.parent


def bench(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["records"]


def span(values, digits=1):
    ends = [f"{end(values):.{digits}f}" for values in [list(values)] for end in (min, max)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def times(record, side):
    return record["sides"][side]["median_s"] / record["sides"]["fused"]["median_s"]


def neurons(ratio, digits=1):
    return span((ratio(r) for r in bench("neuron_cpu")), digits)


def step(kind, compiled=False):
    """The best of a contender's layouts over ours, in eager mode or under torch.compile."""

    def ratio(record):
        sides = {k: v["median_s"] for k, v in record["sides"].items()}
        of = [v for k, v in sides.items() if kind in k and k.endswith(" compiled") == compiled]
        return min(of) / sides["ours"]

    return span(map(ratio, bench("step_cpu")), 2)


def products(ours):
    return span(
        (v for r in bench("step_cpu") for k, v in r["gflops"].items() if (k == "ours") == ours), 0
    )


def least_of_theirs(sides):
    """Of {side: a figure}; of ours there may be several."""
    return min(v for k, v in sides.items() if not k.startswith("ours"))


def of_floor():
    rows = bench("step_cpu")
    return span((r["sides"]["ours"]["median_s"] / r["floor_s"] for r in rows), 1)


def peaks(ours, key="steps_peak_bytes"):
    """MiB by network; of the others the least."""
    rows = [{k: s[key] / 2**20 for k, s in r["sides"].items()} for r in bench("step_cpu")]
    return span((r["ours"] if ours else least_of_theirs(r) for r in rows), 0)


def conv(of, form=None):
    """GFLOP/s of 3x3 convolutions of 64 channels and more, of the form in use or of one."""
    rows = [r for r in bench("convolution_cpu") if r["of"] == of and r["kernel"][0] == 3]
    rows = [r for r in rows if min(r["kernel"][2:]) >= 64]
    return span((r["form_gflops"][form or r["in_use"]] for r in rows), 0)


def convolving(whose):
    """Seconds of a network's convolutions, each alone in the form in use, over those of a step."""
    ratios = []
    for r in bench("step_cpu"):
        name = f"{r['spec']['network']} T={r['spec']['timesteps']}"
        total = 0.0
        for c in bench("convolution_cpu"):
            needed = c["of"] != "input gradient" or c["x"][3] >= 4  # of an image nobody asks
            count = sum(n for network, n in c["networks"] if network == name)
            total += needed * count * c["flops"] / c["form_gflops"][c["in_use"]] * 1e-9
        sides = {k: v["median_s"] for k, v in r["sides"].items()}
        ratios.append(total / (sides["ours"] if whose == "ours" else least_of_theirs(sides)))
    return span(ratios, 2)


def inference(task):
    ratios = []
    for r in bench("inference_cpu"):
        if r["spec"]["task"] == task:
            sides = {k: v["median_s"] for k, v in r["sides"].items()}
            ratios.append(least_of_theirs(sides) / sides["ours"])
    return span(ratios, 2)


def short(name, task=None):
    """How many times as fast ours is in bfloat16 as in float32, by network."""
    rows = [r for r in bench(name) if task in (None, r["spec"].get("task"))]
    sides = [{k: v["median_s"] for k, v in r["sides"].items()} for r in rows]
    return span((s["ours"] / s["ours in bfloat16"] for s in sides), 2)


def compiled(key, one, other, **where):
    """Ratios of a figure between two forms of the same step on one H200."""
    rows = [r for r in bench("compiled_h200") if r["name"].split()[0] != "neuron"]
    rows = [r for r in rows if r["devices"] == 1]
    pick = lambda r, form: (r["rematerialize"], r["kernel"]) == form  # noqa: E731
    for a in (r for r in rows if pick(r, one)):
        for b in (r for r in rows if pick(r, other)):
            if (a["network"], a["timesteps"]) == (b["network"], b["timesteps"]):
                yield a[key] / b[key]


def traffic(network):
    """GB an image that a rematerialised or plain step of the compiler's form moves."""
    rows = [r for r in bench("compiled_h200") if r.get("network") == network and r["devices"] == 1]
    return span((r["bytes_accessed"] / r["batch"] / 1e9 for r in rows if r["kernel"] == "xla"), 2)


def floors(kernel):
    """Bytes a layer moves against the fewest possible, where there is more than one timestep."""
    rows = [r for r in bench("compiled_h200_neuron") if r["kernel"] == kernel]
    return span((r["bytes_accessed"] / r["floor_bytes"] for r in rows if r["timesteps"] > 1), 2)


def normed(key):
    """Of the kernel that takes the norm over the compiler's form, both keeping all."""
    return compiled(key, ("off", "pallas_norm"), ("off", "xla"))


def moved(kernel):
    """MB an image of ResNet-20 at T = 4 that keeps all."""
    (row,) = (
        r for r in bench("compiled_h200")
        if r["name"] == f"resnet20 T=4 batch 256 x 1 rematerialize off {kernel}"
    )  # fmt: skip
    return f"{row['bytes_accessed'] / row['batch'] / 1e6:.1f}"


def grid():
    ms = {r["name"]: r["median_s"] for r in bench("grid_cpu")}
    return span((ms[f"{n} vmap"] / ms[f"{n} one by one"] for n in ("tiny", "mini")), 0)


def stream(name):
    (record,) = (r for r in bench("stream_cpu") if r["name"] == name)
    return f"{record['images_per_second']:.0f}"


def equal_time(name, get):
    """Of a setting of the series at equal time, the mean over seeds."""
    series = json.loads((ROOT / "docs" / "ablations" / "timesteps_cifar10_quick.json").read_text())
    return fmean(get(run) for run in series["runs"] if run["name"] == name)


def energy(one, other, rule):
    """Of an image by one setting over that by another."""
    means = (equal_time(name, lambda run: run["energy_uj"][rule]) for name in (one, other))
    return f"{truediv(*means):.1f}"


def points(one, other):
    """Of accuracy by one setting less that by another."""
    of = (equal_time(name, lambda run: 100 * run["accuracy"]) for name in (one, other))
    return f"{sub(*of):.1f}"


(NIR,) = bench("nir_snntorch")
SAID = [
    ("benchmarks/README.md", "Neuron on a CPU: {} times as fast as SpikingJelly",
     lambda: neurons(lambda r: min(times(r, "dalif"), times(r, "plif")))),
    ("benchmarks/README.md", "under torch.compile ({}x)",
     lambda: neurons(lambda r: times(r, "dalif_compiled"), 2)),
    ("benchmarks/README.md", "it is {}x SpikingJelly with the same neuron", lambda: step("dalif")),
    ("benchmarks/README.md", "gave {} GFLOP/s in XLA", lambda: products(True)),
    ("benchmarks/README.md", "in XLA and {} in PyTorch", lambda: products(False)),
    ("benchmarks/README.md", "{}x its PLIF under torch.compile", lambda: step("plif", True)),
    ("benchmarks/README.md", "{}x DA-LIF as a plain loop", lambda: step("plain", True)),
    ("benchmarks/README.md", "{} times the floor of its arithmetic", of_floor),
    ("benchmarks/README.md", "the steps alone {} MiB", lambda: peaks(True)),
    ("benchmarks/README.md", "their least {} MiB", lambda: peaks(False)),
    ("benchmarks/README.md", "weight gradients of 3x3 kernels at {} GFLOP/s",
     lambda: conv("weight gradient", "compiler")),
    ("benchmarks/README.md", "as products they run at {}", lambda: conv("weight gradient")),
    ("benchmarks/README.md", "timed alone are {} of it", lambda: convolving("ours")),
    ("benchmarks/README.md", "and {} of the fastest contender's whole step",
     lambda: convolving("theirs")),
    ("benchmarks/README.md", "one timestep {}x", lambda: inference("latency")),
    ("benchmarks/README.md", "whole batches {}x.", lambda: inference("throughput")),
    ("benchmarks/README.md", "--config.dtype=bfloat16`: a step {} times",
     lambda: short("step_cpu")),
    ("benchmarks/README.md", "times as fast, one timestep {},",
     lambda: short("inference_cpu", "latency")),
    ("benchmarks/README.md", "whole batches {}. Its",
     lambda: short("inference_cpu", "throughput")),
    ("benchmarks/README.md", "and {} times the scan", lambda: neurons(lambda r: times(r, "scan"))),
    ("benchmarks/README.md", "{}x its simpler PLIF", lambda: step("plif")),
    ("benchmarks/README.md", "peak {} of without",
     lambda: span(compiled("peak_bytes", ("on", "xla"), ("off", "xla")), 2)),
    ("benchmarks/README.md", "traffic {}.",
     lambda: span(compiled("bytes_accessed", ("on", "xla"), ("off", "xla")), 2)),
    ("benchmarks/README.md", "the kernels {} % fewer bytes and",
     lambda: span((100 * (1 - r) for r in
                   compiled("bytes_accessed", ("on", "pallas"), ("on", "xla"))), 0)),
    ("benchmarks/README.md", "{} % fewer bytes than the compiler's form",
     lambda: span((100 * (1 - r) for r in normed("bytes_accessed")), 0)),
    ("benchmarks/README.md", "{} of its peak", lambda: span(normed("peak_bytes"), 2)),
    ("benchmarks/README.md", "ResNet-20 at T = 4 moves {} MB an image",
     lambda: moved("pallas_norm")),
    ("benchmarks/README.md", "the compiler's form moves {} and", lambda: moved("xla")),
    ("benchmarks/README.md", "`vmap` is {} times slower", grid),
    ("benchmarks/README.md", "XLA moves {} times the floor", lambda: floors("xla")),
    ("benchmarks/README.md", "move {} times the floor for T > 1", lambda: floors("pallas")),
    ("docs/ablations/README.md", "1/{} of the energy of real numbers",
     lambda: energy("ReLU", "T=1", "paper")),
    ("docs/ablations/README.md", "rule, 1/{} of it exactly",
     lambda: energy("ReLU", "T=1", "exact")),
    ("docs/ablations/README.md", "T = 4 takes {} times as much as ReLU exactly",
     lambda: energy("T=4", "ReLU", "exact")),
    ("README.md", "the same network with ReLU is {} points better", lambda: points("ReLU", "T=1")),
    ("README.md", "better for {} times the energy of an image, counted exactly",
     lambda: energy("ReLU", "T=1", "exact")),
    ("docs/scale.md", "T = 4 moves {} GB an image", lambda: traffic("resnet34")),
    ("docs/scale.md", "{} images/s on one core", lambda: stream("1 cores, threads")),
    ("docs/scale.md", "on two {} in threads", lambda: stream("2 cores, threads")),
    ("docs/scale.md", "{} in two processes", lambda: stream("2 cores, 2 processes")),
    ("docs/scale.md", "Files are {} kB",
     lambda: f"{bench('stream_cpu')[0]['bytes_per_image'] / 1e3:.0f}"),
    ("README.md", "{} million neurons times timesteps",
     lambda: f"{NIR['compared'] / 1e6:.1f}"),
    ("README.md", "{} million spikes", lambda: f"{sum(NIR['spikes'].values()) / 1e6:.1f}"),
]  # fmt: skip
RELIABILITY = json.loads((ROOT / "docs" / "reliability.json").read_text())
SAID += [
    ("docs/reliability.md", text, lambda part=part, key=key: f"{RELIABILITY[part][key]:,.0f}")
    for text, part, key in (
        ("{} kills, ", "kills", "kills"),
        ("{} of them with an unfinished save", "kills", "with_an_unfinished_save_on_disk"),
        ("{} lost or different", "kills", "lost_or_different"),
        ("{} corruptions", "corruptions", "corruptions"),
        ("{} set aside", "corruptions", "set_aside"),
        ("{} harmless", "corruptions", "read_right"),
        ("{} wrong or lost", "corruptions", "wrong_or_lost"),
        ("{} cases", "fuzz", "cases"),
        ("{} of them valid after all", "fuzz", "accepted"),
        ("{} unexpected", "fuzz", "unexpected"),
        ("{} steps, ", "soak", "steps"),
        ("{} saves", "soak", "saves"),
        ("{} MiB in the second quarter", "soak", "resident_MiB_second_quarter"),
        ("{} in the last; ", "soak", "resident_MiB_last_quarter"),
        ("{} paths, ", "odd_paths", "paths"),
        ("{} saves; ", "odd_paths", "saves"),
        ("saves; {} lost", "odd_paths", "lost"),
        ("{} folders, 898", "mixed_checkpoints", "folders"),
        ("{} steps not theirs", "mixed_checkpoints", "steps_not_theirs"),
        ("{} restored right from what was left", "mixed_checkpoints", "read_right"),
        ("left, {} refused", "mixed_checkpoints", "refused"),
        ("refused; {} wrong", "mixed_checkpoints", "wrong"),
        ("{} files: 3,840", "foreign_headers", "files"),
        ("files: {} refused", "foreign_headers", "refused"),
        ("{} read right; ", "foreign_headers", "read_right"),
        ("{} silent errors", "foreign_headers", "silent_errors"),
        ("{} broken outputs", "broken_output", "tries"),
        ("{} of them saved after new", "broken_output", "saved"),
        ("{} runs lost", "broken_output", "lost"),
        ("{} groups: ", "process_groups", "tries"),
        ("{} compared by their", "process_groups", "compared"),
        ("{} pairs started and refused", "process_groups", "refused"),
        ("{} stopped together", "process_groups", "stopped"),
        ("{} ended by a damaged record", "process_groups", "data_errors"),
        ("{} hangs", "process_groups", "hangs"),
        ("{} user datasets", "user_datasets", "tries"),
        ("{} read as they should be", "user_datasets", "read_right"),
        ("{} refused in words", "user_datasets", "refused"),
        ("{} files from elsewhere", "foreign_files", "tries"),
        ("{} tracebacks", "foreign_files", "tracebacks"),
        ("{} written outside", "foreign_files", "written_outside"),
        ("{} folders with", "lost_samples", "folders"),
        ("folders with {} files", "lost_samples", "files"),
        ("{} left out; ", "lost_samples", "left_out"),
        ("{} unaccounted", "lost_samples", "unaccounted"),
    )
]


@pytest.mark.parametrize(("path", "sentence", "figure"), SAID)
def test_measured_figures_in_sentences_are_those_of_their_file(path, sentence, figure):
    text = " ".join((ROOT / path).read_text().split())
    said = sentence.format(figure())
    shown = re.findall(re.escape(sentence).replace(r"\{\}", "(.{1,40}?)"), text)
    # A figure has no digits before or after it that belong to it.
    assert re.search(rf"(?<![\d.,]){re.escape(said)}", text), f"{said!r}; the page: {shown}"


def test_what_leaks_do_under_a_membrane_norm():
    """As docs/ablations says of decays_digits_dvs."""
    series = json.loads((ROOT / "docs" / "ablations" / "decays_digits_dvs.json").read_text())
    ended = [run for run in series["runs"] if "failed" not in run]

    def leaks(name):
        runs = [run for run in ended if run["name"].endswith(name)]
        return runs, [[d["beta"][-1] for d in run["decays"].values()] for run in runs]

    late, kept = leaks("T16-mbn-tied")
    assert len(late) == 4 and sum(max(of) > 1.9 for of in kept) == 1
    assert all(max(of) < 0.01 for of in kept if max(of) < 1)
    tied, found = leaks("T8-mbn-tied")
    grows = [max(of) > 1 for of in found]
    assert grows == [run["accuracy"] < 0.9 for run in tied]
    assert 0 < sum(grows) < len(tied)
    layers, channels = (leaks(f"T16-mbn-{name}")[1] for name in ("dalif", "channels"))
    assert min(map(min, layers)) > 0.85 and max(map(max, channels)) < 0.8
