"""Feed a camera's events to a trained network bin by bin, and watch its answer grow.

    python train.py --config configs/digits_dvs.py --workdir runs/digits_dvs
    python -m examples.stream_events --workdir runs/digits_dvs --sample 3

Each bin of events becomes one frame and one step of the network, whose membranes are carried from
bin to bin (`networks.stream`): nothing waits for the end of the recording. The answer after the
last bin is that of the whole recording at once, which is computed beside it.
"""

import dalif_jax.runs.environment  # noqa: F401  before anything imports JAX

# isort: split

import argparse
from pathlib import Path

import jax
import numpy as np

from dalif_jax import networks, training
from dalif_jax.data import sets
from dalif_jax.data.events import events, own_recordings, recordings
from dalif_jax.runs.checkpoint import Checkpoints
from dalif_jax.runs.command import report_errors
from dalif_jax.runs.places import folder
from dalif_jax.settings import config


def load(workdir):
    """(config, model, variables) of a run's newest checkpoint."""
    settings = config.load(workdir)
    config.fit_batches(settings, 1)
    config.validate(settings)
    if not sets.spec(settings.dataset, found=settings.found).events:
        raise config.ConfigError(
            f"{workdir} is a run on {settings.dataset}, which holds images; events come from "
            + ", ".join(name for name, spec in sets.SPECS.items() if spec.events)
        )
    jax.config.update("jax_enable_x64", settings.dtype == "float64")
    program = training.make_program(settings, 1, training.make_mesh(jax.devices()[:1]))
    saves, run = Path(workdir) / "checkpoints", config.identity(settings)
    with Checkpoints(saves, settings.keep, create=False, run=run) as checkpoints:
        step = checkpoints.newest()
        if step is None:
            raise config.ConfigError(f"{workdir} holds no checkpoint yet")
        state, _ = checkpoints.restore(step, training.abstract_state(program))
    params = state.params if state.ema is None else state.ema
    return settings, program.model, {"params": params, "batch_stats": state.batch_stats}


def bins(recording, source, settings):
    """The frames [1, H, W, 2] of a recording one after the other, as its events arrive."""
    spec = sets.spec(settings.dataset, settings.frame_size, settings.found)
    seen = recordings.read(recording, source)
    frame_us = round(1000 * settings.frame_ms)
    for start, stop in events.slices(seen, settings.timesteps, settings.split_by, frame_us):
        frame = np.zeros((1, *spec.shape), np.uint32)
        if stop > start:  # by time, a bin can be empty
            size = spec.shape[:2]
            frame = events.to_frames(
                seen[start:stop], source.sensor, size, 1, resize=settings.resize,
                values=settings.frame_values,
            )  # fmt: skip
        yield stop - start, frame


def answers(settings, model, variables, frames):
    """Logits [K] of the recording so far, after each frame [1, H, W, 2]."""
    dtype = jax.numpy.dtype(settings.dtype)
    step = jax.jit(
        lambda state, frame: networks.stream(model, variables, state, frame.astype(dtype))
    )
    state, total = {}, 0.0
    for count, frame in enumerate(frames, 1):
        state, logits = step(state, frame)
        total = total + np.asarray(logits[0], np.float64)
        yield total / count


@report_errors
def main(_):
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--sample", type=int, default=0, help="of the test set")
    parser.add_argument("--data_dir", default=None)
    arguments = parser.parse_args()
    settings, model, variables = load(folder(arguments.workdir, "workdir"))
    data_dir = settings.data_dir if arguments.data_dir is None else arguments.data_dir
    source = own_recordings.with_unit(
        recordings.find(settings.dataset, data_dir, settings.partial_data), settings.time_unit
    )
    count = len(source.splits["test"])
    if not 0 <= arguments.sample < count:
        raise config.ConfigError(f"--sample={arguments.sample} must lie in 0..{count - 1}")
    recording = source.splits["test"][arguments.sample]

    pairs = list(bins(recording, source, settings))
    frames = [frame for _, frame in pairs]
    for (count, _), logits in zip(pairs, answers(settings, model, variables, frames), strict=True):
        print(f"{count:6,} events  so far class {logits.argmax()}")
    spec = sets.spec(settings.dataset, settings.frame_size, settings.found)
    whole = training.prepare(np.concatenate(frames)[None], spec, settings.dtype)
    batch = np.asarray(model.apply(variables, whole, train=False)[0], np.float64).mean(0)
    print(
        f"{recording}: class {logits.argmax()}, label {recording.label}; "
        f"all at once {batch.argmax()}, largest difference {np.abs(batch - logits).max():.1e}"
    )


if __name__ == "__main__":
    main(None)
