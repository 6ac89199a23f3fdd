"""Evaluate a run: restore a checkpoint, measure the whole test set, write eval.json.

python eval.py --workdir runs/digits
python eval.py --workdir runs/digits --checkpoint best
python eval.py --workdir runs/digits_dvs --sample 3  # draws an example and its spikes
"""

import sys
from pathlib import Path

import jax
from absl import app, flags

from dalif_jax import analysis, config, data, training
from dalif_jax.checkpoint import Checkpoints
from dalif_jax.command import (
    accelerator_warning,
    compilation_cache,
    parse_flags,
    report_errors,
)
from dalif_jax.evaluation import evaluate, look_inside, structure_of, write_report
from dalif_jax.feed import feed_of

flags.DEFINE_string("workdir", None, "The run to evaluate.")
flags.DEFINE_enum("checkpoint", "newest", ["newest", "best"], "Which of the run's checkpoints.")
flags.DEFINE_integer("sample", None, "Draw this example of the test set and every layer's spikes.")
flags.DEFINE_string("data_dir", None, "Where the data lies now, if not where the run found it.")


@report_errors
def main(_):
    workdir, which = flags.FLAGS.workdir, flags.FLAGS.checkpoint
    if not workdir:
        raise config.ConfigError("--workdir is missing: the folder of the run to evaluate")
    accelerator_warning()
    compilation_cache()
    settings = config.load(workdir)
    if flags.FLAGS.data_dir is not None:
        settings.data_dir = flags.FLAGS.data_dir
    if settings.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    # A run trained on many devices is evaluated on what there is: the batch need not be the same.
    devices = jax.device_count()
    settings.eval_batch_size = -(-settings.eval_batch_size // devices) * devices
    settings.batch_size = -(-settings.batch_size // devices) * devices
    config.validate(settings, devices)

    with Checkpoints(Path(workdir) / "checkpoints", settings.keep, create=False) as checkpoints:
        step = checkpoints.best() if which == "best" else checkpoints.newest()
        if step is None:
            raise config.ConfigError(f"{workdir} holds no {which} checkpoint yet")
        splits = config.load_data(settings)
        sample, examples = flags.FLAGS.sample, data.size(splits["test"])
        if sample is not None and not 0 <= sample < examples:
            raise config.ConfigError(f"--sample={sample} must lie in 0..{examples - 1}")
        program = training.make_program(settings, 1, training.make_mesh())
        state, _ = checkpoints.restore(step, training.abstract_state(program))

    structure = structure_of(program.model, settings)
    results, feeds = {}, {}
    for name, split in splits.items():
        if name != "train":
            feeds[name] = feed_of(split, program, settings, 1)
            results[name] = evaluate(program, state, feeds[name], settings, structure)
    write_report(workdir, settings, state, step, which, results)
    if sample is not None:
        image, label = feeds["test"].example(sample)
        logits, spikes = look_inside(program, state, image, settings, structure.neurons)
        path = Path(workdir) / f"sample_{sample}.png"
        print(f"drew {analysis.sample(image, spikes, logits, int(label), path)}")


if __name__ == "__main__":
    sys.exit(app.run(main, flags_parser=parse_flags))
