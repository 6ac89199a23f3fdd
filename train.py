"""Train a spiking network from a config; started again on the same workdir, it continues.

python train.py --config configs/digits.py --workdir runs/digits --config.epochs=5
"""

import sys
import time
from pathlib import Path

import jax
from absl import app, flags
from ml_collections import config_flags

from dalif_jax import analysis, config, data, recordings, summary, training
from dalif_jax.checkpoint import Checkpoints
from dalif_jax.command import (
    NonFinite,
    accelerator_warning,
    compilation_cache,
    parse_flags,
    report_errors,
)
from dalif_jax.evaluation import evaluate, write_report
from dalif_jax.runlog import Progress, RunLog

config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
flags.DEFINE_string("workdir", None, "Where the run lives; an existing run there is continued.")
flags.DEFINE_bool("download", False, "Let tonic download a missing event set into data_dir first.")
flags.DEFINE_bool("dry_run", False, "Check the config, print the layer table, stop without data.")


@report_errors
def main(_):
    settings, workdir = flags.FLAGS.config, flags.FLAGS.workdir

    # ---- What is asked for, checked before anything is read or compiled.
    accelerator_warning()
    compilation_cache()
    if settings.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    config.validate(settings, jax.device_count())
    spec = data.spec(settings.dataset, settings.frame_size)
    shape = (settings.timesteps, *spec.shape)
    print(summary.table(summary.layers(training.build_model(settings), shape)))
    if flags.FLAGS.dry_run:
        return
    if not workdir:
        raise config.ConfigError("--workdir is missing: the folder this run is to live in")

    # ---- Data, whole and replicated on the devices; the batch's indices are sharded.
    if flags.FLAGS.download:
        recordings.download(settings.dataset, settings.data_dir)
    splits = config.load_data(settings)
    steps = data.steps_per_epoch(len(splits["train"].labels), settings.batch_size)
    total_steps = settings.epochs * steps
    config.claim(workdir, settings)
    mesh = training.make_mesh()
    program = training.make_program(settings, steps, mesh)
    splits = {name: jax.device_put(split, program.replicated) for name, split in splits.items()}
    train = splits["train"]
    # Curves and `best` use the held-out part where there is one, else the test set, and say so.
    selection = "validation" if "validation" in splits else "test"
    epoch_order = jax.jit(
        lambda epoch: data.epoch_order(
            settings.seed, epoch, len(train.labels), settings.batch_size
        ),
        out_shardings=program.order_sharding,
    )

    layers = summary.neuron_layers(program.model, shape)

    def measure(state, split):
        return evaluate(program, state, *splits[split], settings, layers)

    with Checkpoints(Path(workdir) / "checkpoints", settings.keep) as checkpoints:
        # ---- State: the newest checkpoint of this workdir, else the seed's initial weights.
        newest = checkpoints.newest()
        if newest is None:
            state, step = program.init(), 0
        else:
            state, step = checkpoints.restore(newest, training.abstract_state(program)), newest
            print(f"continuing {workdir} after step {step}")
        print(
            f"{jax.device_count()} x {jax.devices()[0].device_kind}, {settings.dtype}: "
            f"{len(train.labels)} training images, {steps} steps an epoch, {total_steps} in all"
        )

        # ---- The loop. Metrics stay on the device until a line is printed.
        progress = Progress(total_steps, step, steps, settings.batch_size)
        with RunLog(workdir, step) as log:
            unread, due, order = [], None, None
            started = time.perf_counter()
            while step < total_steps:
                if order is None or step % steps == 0:
                    order = epoch_order(step // steps)
                # The guard proves that a step moves nothing between host and devices.
                with jax.transfer_guard("disallow"):
                    state, metrics = program.train_step(state, *train, order)
                step += 1
                unread.append(metrics)
                # Metrics are read while the next step runs: waiting for them leaves nothing idle.
                if due:
                    read_metrics(*due, log, progress, steps)
                    due = None
                epoch_ends = step % steps == 0
                if step % settings.log_every == 0 or epoch_ends:
                    due, unread = (unread, step), []
                if not epoch_ends:
                    continue
                read_metrics(*due, log, progress, steps)
                due = None

                epoch, last = step // steps, step == total_steps
                score = None
                with progress.paused():
                    if epoch % settings.eval_every == 0 or last:
                        record = measure(state, selection)
                        score = record["accuracy"]
                        log.write("eval", step, {"epoch": epoch, "split": selection, **record})
                        print(
                            f"epoch {epoch}/{settings.epochs}  {selection} loss "
                            f"{record['loss']:.4f}  accuracy {score:.2%}",
                            flush=True,
                        )
                    # Everything up to here was seen to be finite, so this state is worth keeping.
                    if epoch % settings.checkpoint_every == 0 or last:
                        checkpoints.save(step, state, score)
            checkpoints.wait()
            seconds = time.perf_counter() - started

        # ---- The result: the last epoch's, on the test set; curves beside it.
        results = {name: measure(state, name) for name in splits if name != "train"}
        write_report(workdir, settings, state, step, "newest", results)
        for path in analysis.draw_all(workdir):
            print(f"drew {path}")
        print(f"trained and measured in {seconds:.0f} s; python eval.py --workdir {workdir}")


def read_metrics(unread, step, log, progress, steps):
    """Fetch the metrics of the steps up to `step`, record the last of them, print its line.

    Raises:
      NonFinite: names every step whose loss or gradient is not finite.
    """
    values = jax.device_get(unread)
    first = step - len(values) + 1
    bad = [
        first + i
        for i, row in enumerate(values)
        if not all(abs(float(row[key])) < float("inf") for key in ("loss", "grad_norm"))
    ]
    newest = {key: float(value) for key, value in values[-1].items()}
    if bad:
        log.write("nonfinite", bad[0], {"steps": bad})
        raise NonFinite(
            f"loss or gradient not finite at step{'s' * (len(bad) > 1)} "
            f"{', '.join(map(str, bad))}; the checkpoints of earlier epochs are intact. "
            "A smaller learning_rate or a warm-up is the usual cure"
        )
    # The mean over the steps since the last record: one batch alone is noise.
    for key in ("loss", "accuracy"):
        newest[key] = sum(float(row[key]) for row in values) / len(values)
    print(progress.line(step, newest["loss"], newest["accuracy"], newest["learning_rate"]))
    log.write("train", step, {"epoch": step / steps, **newest, "images_per_second": progress.rate})


if __name__ == "__main__":
    sys.exit(app.run(main, flags_parser=parse_flags))
