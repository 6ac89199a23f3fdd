"""Evaluate a run: measure a checkpoint on the whole test set, write eval.json, report.html.

python eval.py --workdir runs/digits
python eval.py --workdir runs/digits --checkpoint best  # eval_best.json, report_best.html
python eval.py --workdir runs/digits_dvs --sample 3  # looks into another example
python eval.py --workdir runs/digits --export runs/digits/card  # weights, figures, NIR: a card
python eval.py --card runs/digits/card  # measures a card again; hub:OWNER/NAME one of a hub

Exit code: 0; 1 where a card measures otherwise than it states; 2 for a mistake, in one line.
"""

import dalif_jax.runs.environment  # noqa: F401  before anything imports JAX

# isort: split

import sys
from pathlib import Path

import jax
from absl import flags

from dalif_jax import training
from dalif_jax.data import sets
from dalif_jax.data.feed import feed_of
from dalif_jax.exchange import card
from dalif_jax.runs import compiler, report
from dalif_jax.runs.checkpoint import Checkpoints
from dalif_jax.runs.command import accelerator_warning, devices, report_errors, run_program
from dalif_jax.runs.places import MayBeReadOnly, card_folder, compilation_cache, folder
from dalif_jax.settings import config
from dalif_jax.training.evaluation import evaluate, structure_of, write_report

flags.DEFINE_string("workdir", None, "The run to evaluate.")
flags.DEFINE_enum("checkpoint", "newest", ["newest", "best"], "Which of the run's checkpoints.")
flags.DEFINE_integer("sample", 0, "The example of the test set whose spikes are drawn.")
flags.DEFINE_string("export", None, "Write a model card into this folder, to share.")
flags.DEFINE_bool("nir", True, "Put the NIR graph into the card; --nonir for a smaller one.")
flags.DEFINE_string("card", None, "Evaluate a model card, a folder or hub:OWNER/NAME.")
flags.DEFINE_string("data_dir", None, "Where the data lies now, if not where the run found it.")


@report_errors
def main(_):
    which = flags.FLAGS.checkpoint
    workdir, given, export = (
        flags.FLAGS[name].value and place(flags.FLAGS[name].value, name)
        for name, place in (("workdir", folder), ("card", card_folder), ("export", folder))
    )
    if not workdir and not given:
        raise config.ConfigError("--workdir is missing: the folder of the run to evaluate")
    if workdir and given:
        raise config.ConfigError("--workdir names a run and --card a card; give one of them")
    if given and flags.FLAGS["sample"].present:
        raise config.ConfigError("--sample draws into a run's workdir; a card has none")
    if export:
        card.check_target(export)
    count = devices()
    accelerator_warning()
    compilation_cache()
    compiler.check()

    settings = card.read_settings(given) if given else config.load(workdir)
    jax.config.update("jax_enable_x64", settings.dtype == "float64")
    if given:
        settings, program, state, stated = card.load(given)
        step, which, workdir = stated["step"], stated["checkpoint"], None
    else:
        config.fit_batches(settings, count)
        config.validate(settings, count)
        run = config.identity(config.load(workdir))  # with the batches it was trained with
        saves = Path(workdir) / "checkpoints"
        with Checkpoints(saves, settings.keep, create=False, run=run) as checkpoints:
            step = checkpoints.best() if which == "best" else checkpoints.newest()
            if step is None:
                raise config.ConfigError(f"{workdir} holds no {which} checkpoint yet")
            program = training.make_program(settings, 1, training.make_mesh())
            state, _ = checkpoints.restore(step, training.abstract_state(program))
    if flags.FLAGS.data_dir is not None:
        settings.data_dir = flags.FLAGS.data_dir
    splits = config.load_data(settings)
    sample, examples = flags.FLAGS.sample, sets.size(splits["test"])
    if not 0 <= sample < examples:
        raise config.ConfigError(f"--sample={sample} must lie in 0..{examples - 1}")

    structure = structure_of(program.model, settings)
    results, feeds = {}, {}
    for name, split in splits.items():
        if name != "train":
            feeds[name] = feed_of(split, program, settings, 1)
            results[name] = evaluate(program, state, feeds[name], structure)
    guard = MayBeReadOnly(workdir)
    values = write_report(workdir, settings, state, step, which, results, guard)
    if given:
        print(card.agreement(stated, values))
    if export:
        exported = (settings, program.model, state, values)
        origin = report.provenance_of(workdir, settings, step)
        for path in card.export(export, *exported, nir=flags.FLAGS.nir, origin=origin):
            print(f"wrote {path}")
    if workdir:
        with guard:
            *drawn, page = report.write(workdir, settings, values, state, feeds["test"], sample)
            print("drew " + ", ".join(path.name for path in drawn))
            print(f"all of it on one page: {page}")
    if given and not card.agree(stated, values):
        sys.exit(1)


if __name__ == "__main__":
    run_program(main)
