"""What spikes cost and save at equal time: T = 1, 2, 4 and the same network with ReLU.

    python -m ablations.timesteps --config configs/cifar10_quick.py --workdir runs/timesteps

A step takes about T times as long, so T = 2 trains for half of the recipe's epochs and T = 4 for a
quarter; the minutes that each took stand beside it. ReLU is `neuron=relu` at T = 1: real numbers
for spikes, and a multiply-accumulate where a spike takes an accumulate.
"""

import runpy

from ablations.ranking import rank
from ablations.runs import arguments, series

BASELINE = "T=1"


def settings(epochs):
    """{name: {key: value}} for a recipe of so many epochs at T = 1, a multiple of four.

    Raises:
      ValueError: not a multiple of four, so that T = 4 would have another share.
    """
    if epochs % 4:
        raise ValueError(f"epochs={epochs} is no multiple of 4, and T = 4 trains for a quarter")
    timed = {f"T={t}": {"timesteps": t, "epochs": epochs // t} for t in (1, 2, 4)}
    return timed | {"ReLU": {"timesteps": 1, "epochs": epochs, "neuron": "relu"}}


def main():
    given, rest = arguments(__doc__, seeds=3)
    epochs = runpy.run_path(given.config)["get_config"]().epochs
    epochs = next((int(w.split("=")[1]) for w in rest if w.startswith("--config.epochs=")), epochs)
    rest = [word for word in rest if not word.startswith("--config.epochs=")]
    try:
        asked = settings(epochs)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    for row in rank(series(given, rest, asked), BASELINE):
        print(row.text())


if __name__ == "__main__":
    main()
