"""A run on one page: report.html with its figures inside, readable without a network."""

import base64
import datetime
import platform
import subprocess
from html import escape
from importlib import metadata
from pathlib import Path

from dalif_jax import neurons
from dalif_jax.analysis import figures, health, watching
from dalif_jax.atomic_write import atomic_write
from dalif_jax.data import classes, sets
from dalif_jax.runs.runlog import LogError, duration, read_metrics
from dalif_jax.settings import config
from dalif_jax.settings.keys import get_config as base_config
from dalif_jax.training.evaluation import named
from dalif_jax.training.inside import look_inside

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0.2rem; } h2 { font-size: 1.15rem; margin-top: 2.4rem; }
p { max-width: 46rem; } .lead { color: #555; margin-top: 0; }
figure { margin: 1rem 0; } figcaption { color: #555; font-size: 0.9rem; max-width: 46rem; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 0.2rem 0.8rem; text-align: right; border-bottom: 1px solid #e4e4e4; }
th { font-weight: 600; } th:first-child, td:first-child { text-align: left; }
.ill { border-left: 4px solid #d55e00; padding-left: 0.7rem; }
.wide { overflow-x: auto; } code, pre { font-size: 0.88rem; background: #f5f5f5; }
pre { padding: 0.7rem; overflow-x: auto; }
.key { display: flex; flex-wrap: wrap; gap: 2.2rem; margin: 1.4rem 0; }
.key b { display: block; font-size: 1.5rem; font-weight: 600; } .key span { color: #555; }
"""


def write(workdir, settings, values, state, feed, number=0):
    """Draw a run's figures into its workdir and put them, with its tables, into report.html.

    What is of another checkpoint than the newest is named after it: report_best.html.

    Args:
      settings: the run's config.
      values: what eval.json holds.
      state: TrainState, feed: of the test set; example `number` of it is looked into.
    Returns:
      the paths written.
    Raises:
      LogError: metrics.jsonl is missing or empty, or anything else cannot be drawn; the figures
        before it are drawn by then, and the result is in eval.json.
      OSError: a file cannot be written.
    """
    try:
        return _write(workdir, settings, values, state, feed, number)
    except (LogError, sets.DataError, OSError):
        raise
    except Exception as error:  # the run is finished: no fault of a picture may hide its result
        result = Path(workdir) / f"{named('eval', values['checkpoint'])}.json"
        reason = " ".join(str(error).split())[:300]
        raise LogError(
            f"the report of {workdir} cannot be drawn: {type(error).__name__}: {reason}. The "
            f"result is in {result}"
        ) from error


def _write(workdir, settings, values, state, feed, number):
    workdir = Path(workdir)
    which, step = values["checkpoint"], values["step"]
    records = records_of(workdir)  # a log that is none is said by draw_all, after the rest is drawn
    note = checkpoint_words(values, records)
    example, label = feed.example(number)
    inside = look_inside(state, example, settings, list(values["layers"]))
    names = classes.names(settings.dataset, settings.found)
    file = lambda stem: workdir / f"{named(stem, which)}.png"  # noqa: E731
    drawn = [watching.sample(example, inside, int(label), file(f"sample_{number}"), names, note)]
    if inside.membranes:
        drawn.append(watching.membranes(inside, file(f"membranes_{number}"), note))
    drawn.append(figures.energy_layers(values, file("energy"), note))
    if values["confusion"]:
        drawn.append(figures.confusion_matrix(values, file("confusion"), names, note))
    meanings = neurons.NEURONS[settings.neuron].meanings
    drawn = draw_all(workdir, file("firing_rates").name, step, note, meanings) + drawn
    path = workdir / f"{named('report', which)}.html"
    facts = provenance(settings, records, step)
    title = figures.printable(workdir.resolve().name, 200)
    text = page(title, settings, values, drawn, number, note, facts)
    atomic_write(path, text.encode("utf-8", "replace"))
    return [*drawn, path]


def checkpoint_words(values, records):
    """Which checkpoint a result is of, "best checkpoint, step 120, epoch 7"."""
    words = f"{values['checkpoint']} checkpoint, step {values['step']:,}"
    # Every record says its epoch, so that each tells how many steps one takes.
    for record in records:
        if record["step"] and record.get("epoch"):
            epoch = values["step"] * record["epoch"] / record["step"]
            return f"{words}, epoch {epoch:.2f}".removesuffix(".00")
    return words


def provenance(settings, records, step):
    """Where a result comes from, [(what, value)]: the page's table, nothing that is compared."""
    upto = [r for r in records if r["step"] <= step]
    devices = [r["device"] for r in upto if r.get("device")]
    seconds = [r["seconds"] for r in upto if r.get("seconds") is not None]
    libraries = ("jax", "jaxlib", "flax", "optax", "numpy")
    return [
        ("seed", str(settings.seed)),
        ("trained on", figures.printable(devices[-1], 200) if devices else "not in the log"),
        ("training time", f"{duration(seconds[-1])}, with compilation, evaluation and saving"
         if seconds else "not in the log"),
        ("page written", datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")),
        ("code", code()),
        ("versions", ", ".join([f"Python {platform.python_version()}",
                                *(f"{name} {metadata.version(name)}" for name in libraries)])),
    ]  # fmt: skip


def records_of(workdir):
    """The records of a run's log; none where it cannot be read."""
    try:
        return read_metrics(Path(workdir) / "metrics.jsonl")
    except (FileNotFoundError, LogError):
        return []


def provenance_of(workdir, settings, step):
    """`provenance` of a run's workdir as its log has it, for a card: without when the page was
    written; () without a workdir."""
    if workdir is None:
        return ()
    rows = provenance(settings, records_of(workdir), step)
    return [(what, value) for what, value in rows if what != "page written"]


def commit():
    """The commit of this checkout, `-changed` where files differ from it; "" outside of one."""

    def git(*words):
        try:
            here = Path(__file__).resolve().parent
            return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True)
        except OSError:  # no git
            return None

    # Installed into an environment inside some other project, this is no file of that one.
    known = git("ls-files", "--error-unmatch", Path(__file__).name)
    if known is None or known.returncode:
        return ""
    changed = git("status", "--porcelain", "-uno").stdout.strip()
    return git("rev-parse", "HEAD").stdout.strip()[:12] + ("-changed" if changed else "")


def code():
    """The commit of this checkout in words."""
    return commit() or "no checkout"


def page(name, settings, values, drawn, number, note, origin):
    """The page as text; `drawn` are the paths of its PNG figures, `origin` is of `provenance`."""
    which = values["checkpoint"]
    pictures = {path.stem: path for path in drawn}
    energy = values["energy"]

    def figure(stem, caption):
        stem = stem if stem in pictures else named(stem, which)
        if stem not in pictures:
            return ""
        image = pictures[stem].read_bytes()
        width = (
            7 * int.from_bytes(image[16:20]) // 10
        )  # of PNG's header: text as large as beside it
        return (
            f'<figure><img alt="{escape(caption)}" width="{width}" '
            f'src="data:image/png;base64,{base64.b64encode(image).decode()}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    facts = [
        (f"{values['accuracy']:.2%}", f"of {values['examples']:,} test examples"),
        *(
            (f"{row['accuracy']:.2%}", f"of {row['examples']:,}, {split.replace('_', ' ')}")
            for split, row in values["other_splits"].items()
        ),
        (f"{energy['exact']['energy_uj']:.4g} uJ", "an example, exact rule"),
        (f"{energy['paper']['energy_uj']:.4g} uJ", "an example, the paper's rule"),
        (f"{values['parameters']:,}", "parameters"),
        (f"{1 - energy['activation_sparsity']:.1%}", "of neurons fire in a timestep"),
    ]
    chosen = f", chosen on the {values['chosen_on']} set" if values["chosen_on"] else ""
    ill = health.lines(health.ill(values["layers"], neurons.NEURONS[settings.neuron].levels))
    depth = "shallow to deep: violet to yellow"
    parts = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="lead">{escape(values["model"])} with {escape(values["neuron"])} neurons on '
        f"{escape(values['dataset'])}, T = {values['timesteps']}; {escape(note + chosen)}.</p>",
        '<div class="key">',
        *(f"<div><b>{escape(value)}</b><span>{escape(of)}</span></div>" for value, of in facts),
        "</div>",
        table(("where from", ""), origin),
        "<h2>Training</h2>",
        figure("curves", "Loss, accuracy and learning rate over epochs. The result above is of "
               "the checkpoint named there; the best epoch is marked for comparison."),
        figure("numbers", f"What the neurons learned, by layer ({depth})."),
        "<h2>Inside the network</h2>",
        *(f'<p class="ill">{escape(line)}.</p>' for line in ill),
        figure("firing_rates", "Firing rate of every neuron layer on the test set."),
        figure(f"sample_{number}", f"Test example {number}: what the network saw, its answer after "
               "each timestep, and spikes."),
        figure(f"membranes_{number}", f"Test example {number}: membranes of a few neurons a layer; "
               "each rises and leaks towards the next timestep and fires at its threshold."),
        layer_table(values),
        "<h2>Operations and energy</h2>",
        figure("energy", "Energy of an example by layer. The paper's rule counts as thop and SyOPs "
               "do; the exact one counts each synapse that a value other than 0 drives."),
        energy_table(values),
        "<h2>Errors</h2>" if values["confusion"] else "",
        figure("confusion", "Right classes and answers on the test set."),
        "<h2>Settings</h2>",
        "<p>All others are the defaults of <code>dalif_jax/settings/keys.py</code>.</p>",
        f"<pre>{escape(chr(10).join(changed(settings)))}</pre>",
    ]  # fmt: skip
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(name)}, '
        f"{escape(note)}</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(filter(None, parts)) + "\n</body>"
        "</html>\n"
    )


def table(head, rows):
    """An HTML table; cells are text."""
    shown = lambda cell: escape(figures.printable(cell, 300))  # noqa: E731
    line = lambda tag, cells: "".join(f"<{tag}>{shown(cell)}</{tag}>" for cell in cells)  # noqa: E731
    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{line("th", head)}</tr>{body}</table></div>'


def layer_table(values):
    """What its neurons show, as alpha and beta, and spikes of every neuron layer."""
    numbers = figures.numbers_of([values])

    def mean(value):
        value = value if isinstance(value, list) else [value]
        return f"{sum(value) / len(value):.3f}"

    rows = [
        (
            name,
            *(mean(row[key]) for key in numbers),
            f"{row['firing_rate']:.2%}",
            f"{row['spikes'] / values['examples']:,.1f}",
        )
        for name, row in values["layers"].items()
    ]
    head = ("neuron layer", *numbers, "firing rate", "spikes an example")
    return table(head, rows)


def energy_table(values):
    """Totals of both rules, spiking and dense."""
    energy = values["energy"]
    rows = []
    for rule, title in (("paper", "paper (thop, SyOPs)"), ("exact", "exact (NeuroBench)")):
        row = energy[rule]
        flops = f"{row['flops']:,}" if "flops" in row else ""
        rows.append((title, f"{row['macs']:,.0f}", f"{row['acs']:,.0f}", flops,
                     f"{row['energy_uj']:.4g}"))  # fmt: skip
        rows.append((f"{title}, dense network, once", f"{row['dense_macs']:,}", "", "",
                     f"{row['dense_energy_uj']:.4g}"))  # fmt: skip
    head = ("an example", "MACs", "ACs", "FLOPs", "uJ")
    note = (
        f"<p>{energy['mac_pj']} pJ a MAC, {energy['ac_pj']} pJ an AC. Footprint of weights and "
        f"statistics: {energy['footprint_bytes']:,} bytes. Layer by layer in "
        f"{named('eval', values['checkpoint'])}.json.</p>"
    )
    return table(head, rows) + note


def changed(settings):
    """The settings that differ from the base config, a line each."""
    base, own = config.to_json(base_config()), config.to_json(settings)
    spec = sets.spec(settings.dataset, found=settings.found)
    kept = {key: value for key, value in own.items() if value != base[key] or key == "model"}
    return [f"{key} = {value!r}" for key, value in kept.items()] + [f"# {spec.classes} classes"]


def draw_all(workdir, rates="firing_rates.png", step=None, note="", meanings=None):
    """Draw curves.png, numbers.png and firing_rates.png into a workdir; returns their paths.

    The second is left out where the neurons show no numbers.

    Args:
      rates: name of the last one, which is of the checkpoint of `step`; the others are of the run.
    Raises:
      LogError: the workdir has no metrics.jsonl, or it holds no records yet.
    """
    workdir = Path(workdir)
    path = workdir / "metrics.jsonl"
    if not path.is_file():
        raise LogError(f"{path} does not exist: there is nothing to draw curves from")
    records = read_metrics(path)
    if not records:
        raise LogError(f"{path} holds no records yet: nothing to draw")
    check_drawable(records, path)
    drawn = [figures.learning_curves(records, workdir / "curves.png")]
    evals = [r for r in records if r["kind"] == "eval"]
    if evals:
        if figures.numbers_of(evals):
            drawn.append(figures.number_curves(records, workdir / "numbers.png", meanings))
        drawn.append(figures.firing_rates(records, workdir / rates, step, note))
    return drawn


DRAWN = {
    "train": ("epoch", "loss", "accuracy", "learning_rate"),
    "eval": ("epoch", "loss", "accuracy", "split", "layers"),
}


def check_drawable(records, path):
    """Raise LogError for the first record that lacks what the curves show.

    Args:
      records: what read_metrics gives, which checks the types.
      path: their file, for the message.
    """
    layers = None
    for record in records:
        for key in DRAWN.get(record["kind"], ()):
            if key not in record:
                raise LogError(f"{path}: the {record['kind']} record of step {record['step']} has "
                               f"no {key}")  # fmt: skip
        if record["kind"] != "eval":
            continue
        if record["accuracy"] is None or record["epoch"] is None:
            raise LogError(f"{path}: accuracy or epoch of step {record['step']} is null")
        # Every evaluation of a run is of the same network.
        shape = {name: sorted(row) for name, row in record["layers"].items()}
        if layers is not None and shape != layers:
            raise LogError(f"{path}: the layers of step {record['step']} are those of another run")
        layers = shape
        if not layers or not all("firing_rate" in row for row in record["layers"].values()):
            raise LogError(f"{path}: a layer of step {record['step']} has no firing_rate")
