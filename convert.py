"""Make another network of a trained one, with its weights, as a card.

python convert.py --source runs/x --to folded --export cards/x  # membrane norms into thresholds
python convert.py --source runs/ann --to diet --timesteps 5 --export cards/snn  # ANN to Diet-SNN

--config.init_from=cards/snn trains it on.
"""

import dalif_jax.runs.environment  # noqa: F401  before anything imports JAX

# isort: split

from pathlib import Path

import jax
from absl import flags
from flax.traverse_util import unflatten_dict

from dalif_jax import training
from dalif_jax.data import sets
from dalif_jax.data.feed import feed_of
from dalif_jax.exchange import card, convert, hub
from dalif_jax.runs import init_from, report
from dalif_jax.runs.command import accelerator_warning, devices, report_errors, run_program
from dalif_jax.runs.places import card_folder, compilation_cache, folder
from dalif_jax.settings import config
from dalif_jax.training.evaluation import evaluate, structure_of, write_report

flags.DEFINE_string(
    "source", None, "The run's workdir, or the card, also hub:OWNER/NAME, whose weights are taken."
)
flags.DEFINE_enum("to", None, ["folded", "diet"], "What is made of it.")
flags.DEFINE_string("export", None, "The folder of the card that is written.")
flags.DEFINE_string("data_dir", None, "Where the data lies now, if not where the run found it.")
flags.DEFINE_integer("timesteps", 5, "Of Diet-SNN.", lower_bound=1)
flags.DEFINE_float("percentile", 99.7, "Of currents, which is a threshold.", 0.0, 100.0)
flags.DEFINE_float("scale", 0.2, "What thresholds are multiplied with.", lower_bound=1e-6)
flags.DEFINE_integer("examples", 512, "Of the training set, to measure currents on.", 1)
flags.DEFINE_string("layers", "", "Names start with this where thresholds are measured.")


@report_errors
def main(_):
    given = flags.FLAGS
    for name in ("source", "to", "export"):
        if not given[name].value:
            raise config.ConfigError(f"--{name} is missing: {given[name].help}")
    source, export = card_folder(given.source, "source"), folder(given.export, "export")
    card.check_target(export)
    devices()
    accelerator_warning()
    compilation_cache()
    trained = not (Path(source) / "weights.safetensors").is_file()
    settings = config.load(source) if trained else card.read_settings(source)
    jax.config.update("jax_enable_x64", settings.dtype == "float64")
    if given.data_dir is not None:
        settings.data_dir = given.data_dir
    config.fit_batches(settings, jax.device_count())
    weights = init_from.read(source)
    config.validate(settings, jax.device_count())
    params, stats = weights_of(source, weights, settings)
    origin = report.provenance_of(source if trained else None, settings, weights.step)
    splits = config.load_data(settings)

    # ---- The network that is made.
    if given.to == "folded":
        before = measured(settings, params, stats, splits)
        settings, params, stats = convert.fold_membrane_norms(settings, params, stats)
    else:
        images = sets.sample(splits["train"], given.examples)
        settings, params, thresholds = convert.to_diet(
            settings, params, images, timesteps=given.timesteps, percentile=given.percentile,
            scale=given.scale, only=given.layers,
        )  # fmt: skip
        for name, value in thresholds.items():
            print(f"{name}: threshold {value:.6g}")
    config.validate(settings, jax.device_count())

    # ---- What it does, and the card.
    program, state, results = measured(settings, params, stats, splits)
    values = write_report(None, settings, state, 0, "newest", results)
    if given.to == "folded":
        print(agreement(before[2]["test"], results["test"]))
    made = [("made by", f"convert.py --to {given.to}")]
    if given.source.startswith(hub.PREFIX):
        made.append(("made of", given.source))
    origin = [*made, *(origin or [("seed", str(settings.seed)), ("code", report.code())])]
    for path in card.export(export, settings, program.model, state, values, origin=origin):
        print(f"wrote {path}")


def weights_of(source, weights, settings):
    """(params, batch_stats) of the source's network.

    Raises:
      CardError: they are not those of the network that its config describes.
    """
    program = training.make_program(settings, 1, training.make_mesh())
    shapes = jax.eval_shape(program.init)
    expected = {"params": shapes.params, "batch_stats": shapes.batch_stats}
    card.check_arrays(source, weights.arrays, expected)
    return nested(weights.arrays)


def nested(arrays):
    """(params, batch_stats) as nested dicts of {"params/a/b": array, ...}."""
    tree = unflatten_dict(arrays, sep="/")
    return tree.get("params", {}), tree.get("batch_stats", {})


def measured(settings, params, stats, splits):
    """(program, state, {split: what `evaluate` returned}) of a network with these weights."""
    program = training.make_program(settings, 1, training.make_mesh())
    state = training.TrainState(0, params, stats, (), None)
    state = jax.device_put(state, program.replicated)
    structure = structure_of(program.model, settings)
    return program, state, {
        name: evaluate(program, state, feed_of(split, program, settings, 1), structure)
        for name, split in splits.items()
        if name != "train"
    }  # fmt: skip


def agreement(before, after):
    """A line: how far the spikes of two networks agree, layer by layer."""
    spikes = [{name: row["spikes"] for name, row in r["layers"].items()} for r in (before, after)]
    differ = [name for name in spikes[0] if spikes[0][name] != spikes[1][name]]
    total = sum(spikes[0].values())
    if not differ:
        return f"the same {total:,} spikes on the test set, layer by layer"
    off = sum(abs(spikes[0][name] - spikes[1][name]) for name in differ)
    return f"{off:,} of {total:,} spikes more or fewer, in {', '.join(differ)}: rounding"


if __name__ == "__main__":
    run_program(main)
