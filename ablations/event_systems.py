"""The compared networks for event cameras, over seeds: all of configs/event_systems.py or some.

    python -m ablations.event_systems --config configs/event_systems.py --workdir runs/events

`results.json` in the workdir is what docs/systems.md is made from (docs/systems/events.json).
"""

from ablations.runs import arguments, series
from configs.event_systems import SYSTEMS


def main():
    given, rest = arguments(__doc__, seeds=1, choices={"systems": tuple(SYSTEMS)})
    given.named = True
    for record in series(given, rest, {name: {} for name in given.systems}):
        print(f"{record['name']:20} {record['accuracy']:.2%}")


if __name__ == "__main__":
    main()
