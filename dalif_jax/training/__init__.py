"""Training: the state of a run, its batches, its jitted steps."""

from dalif_jax.training.batches import prepare
from dalif_jax.training.counting import CONFUSION_UP_TO
from dalif_jax.training.state import (
    TrainState,
    abstract_state,
    first_not_finite,
    make_mesh,
    seed_key,
)
from dalif_jax.training.steps import Program, build_model, make_program
from dalif_jax.training.updates import (
    make_optimizer,
    make_schedule,
    schedule_change,
    weights_only,
)

__all__ = [
    "CONFUSION_UP_TO", "Program", "TrainState", "abstract_state", "build_model", "first_not_finite",
    "make_mesh", "make_optimizer", "make_program", "make_schedule", "prepare",
    "schedule_change", "seed_key", "weights_only",
]  # fmt: skip
