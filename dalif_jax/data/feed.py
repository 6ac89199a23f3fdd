"""What a step is given: the place of its batch in a set on the devices, or the batch, streamed.

Both feeds name the same examples at the same step: the order is `sets.epoch_order`.
"""

import gc
from typing import NamedTuple

import jax
import numpy as np
from absl import flags

from dalif_jax.data import sets
from dalif_jax.data.imagenet import ImageNet


class Reading(NamedTuple):
    """How a split is read."""

    seed: int  # of the order, and of what is drawn for an example
    steps: int  # of an epoch
    batch: int
    eval_batch: int
    workers: int  # processes that decode, 0: threads


def feed_of(split, program, config, steps_per_epoch):
    """The feed of a split: sets.Split goes onto the devices whole, imagenet.ImageNet streams."""
    kind = Stream if isinstance(split, ImageNet) else Resident
    reading = Reading(
        config.seed, steps_per_epoch, config.batch_size, config.eval_batch_size,
        config.data_workers,
    )  # fmt: skip
    return kind(split, program, reading)


class Resident:
    """A split that lies on every device whole; a step gathers its batch there."""

    def __init__(self, split, program, reading):
        self.split, self.program, self.reading = split, program, reading
        self.examples = len(split.labels)
        self.arrays = jax.device_put(tuple(split), program.replicated)
        self.order = jax.jit(
            lambda epoch: sets.epoch_order(reading.seed, epoch, self.examples, reading.batch),
            out_shardings=program.order_sharding,
        )

    def train(self, step):
        """What `program.train_step` takes after the state, from this step on, without end."""
        order = None
        while True:
            if order is None or step % self.reading.steps == 0:
                order = self.order(step // self.reading.steps)
            yield *self.arrays, order
            step += 1

    def evaluate(self):
        """What `program.eval_step` takes after the state, until every example was given once."""
        for batch in sets.eval_batches(self.examples, self.reading.eval_batch):
            yield *self.arrays, *jax.device_put(batch, self.program.sharded)

    def example(self, i):
        """(image or frames, label) of one example as it is evaluated, NumPy."""
        return self.split.images[i], self.split.labels[i]


class Stream:
    """A split read from disk while the devices compute; each process reads its share of a batch.

    Decoding runs in threads, or in `data_workers` processes; neither changes a batch.

    Raises:
      DataError: from either iterator, a damaged record.
    """

    def __init__(self, split, program, reading):
        self.split, self.program, self.reading = split, program, reading
        self.examples = len(split)

    def train(self, step):
        """See Resident.train."""
        seed, batch = self.reading.seed, self.reading.batch
        mine = self._mine(batch)
        while True:
            epoch, done = divmod(step, self.reading.steps)
            order = np.asarray(sets.epoch_order(seed, epoch, self.examples, batch))
            rows = order[done:, mine]
            # (example, step, place in the global batch) of all that is left of this epoch.
            steps = np.arange(step, step + len(rows))
            tasks = np.stack([rows, *np.broadcast_arrays(steps[:, None], mine)], -1)
            decode = TrainingExample(self.split, seed)
            for images, labels in self._read(tasks.reshape(-1, 3), decode, len(mine)):
                yield *self._spread(batch, images, labels), None
            step += len(rows)

    def evaluate(self):
        """See Resident.evaluate."""
        batch = self.reading.eval_batch
        mine = self._mine(batch)
        batches = list(sets.eval_batches(self.examples, batch))
        tasks = np.concatenate([indices[mine] for indices, _ in batches])
        read = self._read(tasks, EvaluationExample(self.split), len(mine))
        for (images, labels), (_, valid) in zip(read, batches, strict=True):
            images, labels, valid = self._spread(batch, images, labels, valid[mine])
            yield images, labels, None, valid

    def example(self, i):
        """See Resident.example."""
        return self.split.test_example(i)

    def _mine(self, batch):
        """The places of the global batch that lie on this process's devices, in order."""
        slices = self.program.sharded.addressable_devices_indices_map((batch,)).values()
        return np.unique(np.concatenate([np.arange(batch)[place] for place in slices]))

    def _spread(self, batch, *arrays):
        """This process's part of a batch onto its devices, as part of the global arrays."""
        return tuple(
            jax.make_array_from_process_local_data(
                self.program.sharded, array, (batch, *array.shape[1:])
            )
            for array in arrays
        )

    def _read(self, tasks, decode, batch):
        """Batches (images, labels) of the tasks in their order, decoded ahead of their use."""
        batches = self._decoded(tasks, decode, batch)
        try:
            yield from batches
        finally:
            # However many were taken: the threads or processes end here, not at some collection.
            batches.close()
            if self.reading.workers:
                # Their locks lie in cycles, and the interpreter's resource tracker does not bear
                # that a collection frees them while it notes new ones.
                del batches
                gc.collect()

    def _decoded(self, tasks, decode, batch):
        # Imported where they are used: sets that fit the devices need neither.
        import grain
        import joblib

        examples = grain.MapDataset.source(tasks).map(decode)
        if self.reading.workers:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()  # outside a command, grain asks for flags of its own
            # Whole batches to a process: grain deals out what it is given in turn.
            threads = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
            processes = grain.MultiprocessingOptions(self.reading.workers)
            return iter(examples.batch(batch).to_iter_dataset(threads).mp_prefetch(processes))
        cores = joblib.cpu_count()  # those this process may use
        threads = grain.ReadOptions(cores, max(2 * batch, cores))
        return iter(examples.to_iter_dataset(threads).batch(batch))


class TrainingExample:
    """(example, step, place) -> image and label; a class, so that worker processes can have it."""

    def __init__(self, split, seed):
        self.split, self.seed = split, seed

    def __call__(self, task):
        example, step, place = map(int, task)
        return self.split.training_example(example, self.seed, step, place)


class EvaluationExample:
    """example -> image and label, as it is evaluated."""

    def __init__(self, split):
        self.split = split

    def __call__(self, task):
        return self.split.test_example(int(task))
