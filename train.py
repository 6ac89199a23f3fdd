"""Train a spiking network from a config; started again on the same workdir, it continues.

python train.py --config configs/digits.py --workdir runs/digits --config.epochs=5
"""

import dalif_jax.runs.environment  # noqa: F401  before anything imports JAX

# isort: split

import contextlib
import sys
import time
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags

from dalif_jax import neurons, training
from dalif_jax.analysis import health, summary
from dalif_jax.data import sets
from dalif_jax.data.events import recordings
from dalif_jax.data.feed import feed_of
from dalif_jax.runs import allocator, cluster, compiler, init_from, report
from dalif_jax.runs.checkpoint import CheckpointError, Checkpoints
from dalif_jax.runs.command import (
    Signals,
    accelerator_warning,
    devices,
    join_cluster,
    only_one,
    report_errors,
    run_program,
)
from dalif_jax.runs.metrics import Metrics
from dalif_jax.runs.places import card_folder, compilation_cache, folder
from dalif_jax.runs.runlog import LogError, Progress, RunLog, warn
from dalif_jax.runs.runlog import read_metrics as read_log
from dalif_jax.settings import config
from dalif_jax.training.evaluation import Interrupted, evaluate, structure_of, write_report

config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
flags.DEFINE_string("workdir", None, "Where the run lives; an existing run there is continued.")
flags.DEFINE_bool("download", False, "Let tonic download a missing event set into data_dir first.")
flags.DEFINE_bool("distributed", False, "Be one of several processes; JAX finds the others.")
flags.DEFINE_bool("dry_run", False, "Check the config, print the layer table, stop without data.")


@report_errors
def main(_):
    settings, workdir = flags.FLAGS.config, flags.FLAGS.workdir
    if workdir:
        workdir = folder(workdir, "workdir")

    # ---- What is asked for, checked before anything is read or compiled.
    if flags.FLAGS.distributed:
        join_cluster()
        dry_run = flags.FLAGS.dry_run
        cluster.agree("settings", cluster.run_description(settings, workdir, dry_run=dry_run))
    count = devices()
    accelerator_warning()
    compilation_cache()
    compiler.check()
    config.find(settings)
    config.validate(settings, count)
    jax.config.update("jax_enable_x64", settings.dtype == "float64")
    for line in config.without_effect(settings, jax.default_backend()):
        print(line)
    spec = sets.spec(settings.dataset, settings.frame_size, settings.found)
    shape = (settings.timesteps, *spec.shape)
    print(summary.table(summary.layers(training.build_model(settings), shape)))
    taken = None
    if settings.init_from and not (workdir and any(Path(workdir, "checkpoints").glob("[0-9]*"))):
        taken = weights_from(settings, workdir)
    if flags.FLAGS.dry_run:
        return
    if not workdir:
        raise config.ConfigError("--workdir is missing: the folder this run is to live in")
    if "://" in workdir:
        raise config.ConfigError(
            f"--workdir={workdir} is no folder: a run needs a file system for its lock and log; "
            "train on a local disk and copy the run, or mount the bucket"
        )

    with only_one(workdir):
        train(settings, workdir, shape, taken)


def weights_from(settings, workdir):
    """What this run's network takes from init_from, which is said."""
    source = card_folder(settings.init_from, "config.init_from")
    if workdir and Path(source).resolve() == Path(workdir).resolve():
        raise config.ConfigError("init_from is this run's own workdir, which continues by itself")
    program = training.make_program(settings, 1, training.make_mesh())
    shapes = training.abstract_state(program)
    taken, lines = init_from.fit(
        init_from.read(source), {"params": shapes.params, "batch_stats": shapes.batch_stats}
    )
    print("\n".join(lines))
    return taken


def train(settings, workdir, shape, taken=None):
    """Train what a checked config says, from where the workdir stands, and measure the result."""
    # ---- Data: whole on every device, where a step gathers its batch, or streamed from disk.
    if flags.FLAGS.download:
        recordings.download(settings.dataset, settings.data_dir)
    splits = config.load_data(settings)
    steps = sets.steps_per_epoch(sets.size(splits["train"]), settings.batch_size)
    total_steps = settings.epochs * steps
    for line in config.check_steps(settings, steps):
        print(line)
    cluster.agree("data", cluster.data_digest(splits) if cluster.size() > 1 else {})
    first = jax.process_index() == 0  # of several processes the first alone writes
    saves = Path(workdir) / "checkpoints"
    before = None
    if first:
        never_from_scratch(workdir, saves)
        before = config.claim(workdir, settings)
    cluster.agree("start", {})  # the first process has claimed the workdir
    mesh = training.make_mesh()
    program = training.make_program(settings, steps, mesh)
    feeds = {
        name: cluster.agreed(feed_of(split, program, settings, steps))
        for name, split in splits.items()
    }
    # Curves and `best` use the held-out part where there is one, else the test set, and say so.
    selection = "validation" if "validation" in feeds else "test"
    structure = structure_of(program.model, settings)
    names = [row.name for row in summary.layers(program.model, shape)]
    watch = health.Watch(neurons.NEURONS[settings.neuron].levels)

    with (
        Signals() as signals,
        Checkpoints(saves, settings.keep, run=config.identity(settings)) as checkpoints,
    ):

        def measure(split):
            return evaluate(program, state, feeds[split], structure, signals.reached)

        # ---- State: the newest checkpoint that is whole, else the seed's initial weights.
        restored = checkpoints.restore_newest(training.abstract_state(program))
        step, state, extra = restored or (0, program.init(), None)
        if taken and not restored:
            state = init_from.start(workdir, state, taken, program.replicated)
        extra = extra or {}
        weights = init_from.digest_of(taken) if taken and not restored else {}
        cluster.agree("checkpoint", {"step": step, **weights})
        if restored:
            print(f"continuing {workdir} after step {step}")
            if before and (line := training.schedule_change(before, settings, step, steps)):
                print(line)
        device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
        print(
            f"{device}, {settings.dtype}: "
            f"{feeds['train'].examples} training examples, {steps} steps an epoch, "
            f"{total_steps} in all"
        )

        # ---- The loop.
        begun = step
        progress = Progress(total_steps, step, steps, settings.batch_size)
        ended = extra.get("epoch_ended", False)  # and its evaluation is still to be done
        with RunLog(workdir, step, first, again=("eval",) if ended else ()) as log:
            metrics = Metrics(log, progress, steps, names, extra.get("unread", ()))
            batches = feeds["train"].train(step)
            saved = step if restored else None
            started = time.perf_counter()

            def save_between():
                """Save what an ended epoch does not: any step, with what is still to be done."""
                metrics.read(state)
                if saved != step:
                    left = metrics.left(step, state)
                    checkpoints.save(step, state, extra={"unread": left, "epoch_ended": ended})
                checkpoints.finish()
                print(f"saved after step {step}; the same command continues")

            while True:
                if ended:
                    epoch, last = step // steps, step == total_steps
                    # A signal stops the evaluation; it is done when the run continues.
                    with progress.paused(), contextlib.suppress(Interrupted), saving(save_between):
                        score = None
                        if epoch % settings.eval_every == 0 or last:
                            about = {"epoch": epoch, "split": selection, "device": device}
                            about["peak_mb"] = allocator.peak()
                            result = measure(selection)
                            score = record(log, step, about, result, settings.epochs, watch)
                        ended = False
                        # Everything up to here was seen to be finite: this state is worth keeping.
                        best = score is not None and score > checkpoints.best_score()
                        if saved == step:  # its evaluation was stopped, and this run continues it
                            checkpoints.complete(step, score)
                        elif epoch % settings.checkpoint_every == 0 or last or best:
                            checkpoints.save(step, state, score)
                            saved = step
                if signals.reached():
                    save_between()
                    sys.exit(signals.exit_code)
                if step >= total_steps:
                    break

                with saving(save_between):
                    batch = next(batches)
                # The guard proves that a step itself moves nothing between host and devices.
                with jax.transfer_guard("disallow"):
                    state, measured = program.train_step(state, *batch)
                if step == begun:
                    allocator.give_back()  # compiling takes more than the steps
                step += 1
                progress.stepped(step)
                metrics.add(measured)
                # Metrics are read while the next step runs: waiting for them leaves nothing idle.
                metrics.read(state)
                ended = step % steps == 0
                if step % settings.log_every == 0 or ended:
                    metrics.due(step)
                if ended:
                    metrics.read(state)
            checkpoints.finish()
            seconds = time.perf_counter() - started

        # ---- The result: the last epoch's, on the test set; curves beside it.
        try:
            results = {name: measure(name) for name in feeds if name != "train"}
        except Interrupted:
            sys.exit(signals.exit_code)
        try:
            # Nothing is left to save: the next signal ends the program, without half a file.
            signals.end()
            if not first:
                return
            values = write_report(workdir, settings, state, step, "newest", results)
            *drawn, page = report.write(workdir, settings, values, state, feeds["test"])
        except OSError as error:
            raise LogError(
                f"the result cannot be written into {workdir}: {error}; the run is whole, and "
                f"python eval.py --workdir {workdir} writes it when there is room"
            ) from error
        finally:
            cluster.finish()
        print("drew " + ", ".join(path.name for path in drawn))
        print(f"all of it on one page: {page}")
        print(f"trained and measured in {seconds:.0f} s; python eval.py --workdir {workdir}")


@contextlib.contextmanager
def saving(save):
    """Save before a data error ends the run: one record of a million costs no steps."""
    try:
        yield
    except sets.DataError:
        save()
        raise


def never_from_scratch(workdir, saves):
    """Refuse to begin anew where a run has been: the checkpoints' folder is older than its log.

    Raises:
      CheckpointError: there is a log of steps, and no folder of checkpoints.
    """
    path = Path(workdir) / "metrics.jsonl"
    if not path.exists() or any(saves.glob("[0-9]*")):
        return
    reached = max((record["step"] for record in read_log(path)), default=0)
    if reached and not saves.exists():
        raise CheckpointError(
            f"{path} reaches step {reached}, but {saves} is gone, and the run does not start "
            f"again from scratch by itself; bring it back, or remove {path} to begin anew"
        )
    if reached:  # killed before its first save, or emptied
        warn(f"{saves} holds no checkpoint, and {path} reaches step {reached}: begun anew")


def record(log, step, about, result, epochs, watch):
    """Log what `evaluate` gave of an epoch and print its line; returns the accuracy."""
    del result["operations"], result["confusion"]  # for the report alone
    ill, news = watch(result["layers"])
    log.write("eval", step, {**about, **result, **ill})
    print(
        f"epoch {about['epoch']}/{epochs}  {about['split']} loss {result['loss']:.4f}  "
        f"accuracy {result['accuracy']:.2%}",
        *(f"warning: {line}" for line in news),
        sep="\n",
        flush=True,
    )
    return result["accuracy"]


if __name__ == "__main__":
    run_program(main)
