"""The nearest known name to one that is not known, for error messages."""

import difflib

# What other libraries call a setting of this one.
SYNONYMS = {
    "lr": "learning_rate", "bs": "batch_size", "b": "batch_size", "wd": "weight_decay",
    "t": "timesteps", "time_steps": "timesteps", "steps": "timesteps", "num_steps": "timesteps",
    "arch": "model", "net": "model", "network": "model", "backbone": "model",
    "data": "dataset", "data_path": "data_dir", "data_root": "data_dir", "root": "data_dir",
    "num_epochs": "epochs", "opt": "optimizer", "optim": "optimizer", "scheduler": "schedule",
    "lr_schedule": "schedule", "lr_scheduler": "schedule", "warmup": "warmup_epochs",
    "neuron_type": "neuron", "node": "neuron", "v_threshold": "threshold", "v_th": "threshold",
    "vth": "threshold", "tau": "neuron_options.tau", "surrogate_function": "surrogate",
    "criterion": "loss", "loss_fn": "loss", "precision": "dtype", "amp": "dtype",
    "num_workers": "data_workers", "workers": "data_workers", "random_seed": "seed",
    "smoothing": "label_smoothing", "ema": "ema_decay", "augmentation": "augment",
    "grad_accum": "accumulate", "resume": "--workdir (an existing run there is resumed)",
    "output_dir": "--workdir", "workdir": "--workdir", "ce": "cross_entropy",
    "atan": "arctan", "bn": "batch", "adam_w": "adamw", "fp32": "float32", "fp16": "bfloat16",
    "bf16": "bfloat16", "fp64": "float64",
}  # fmt: skip


def did_you_mean(word, known):
    """' (did you mean ...?)' with the nearest of the known names, or '' where none is near.

    Case does not count, and names that other libraries use are known (SYNONYMS).
    """
    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), names, n=1)
    synonym = SYNONYMS.get(word.lower(), "")
    if synonym in names or synonym.startswith("--") or synonym.partition(".")[0] in names:
        suggestion = synonym
    else:
        suggestion = names[close[0]] if close else ""
    return f" (did you mean {suggestion!r}?)" if suggestion else ""
