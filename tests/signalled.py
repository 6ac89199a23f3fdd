"""Run a program and send it a signal when a function is entered for the COUNTth time.

    python tests/signalled.py PLACE COUNT SIGNAL train.py --config ...

PLACE is module:function, module:Class.method, or module:function().field for a field of what the
function returns. Where the signal falls is then the same on every machine.
"""

import importlib
import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def watched(function, count, number):
    entered = 0

    def call(*args, **kwargs):
        nonlocal entered
        entered += 1
        if entered == count:
            os.kill(os.getpid(), number)
        return function(*args, **kwargs)

    return call


def main():
    place, count, number, *sys.argv = sys.argv[1:]
    sys.path.insert(0, str(ROOT))
    module, path = place.split(":")
    owner = importlib.import_module(f"dalif_jax.{module}")
    maker, _, field = path.partition("().")
    *inside, name = maker.split(".")
    for part in inside:
        owner = getattr(owner, part)
    function, watch = getattr(owner, name), (int(count), int(number))

    def made(*args, **kwargs):
        result = function(*args, **kwargs)
        return result._replace(**{field: watched(getattr(result, field), *watch)})

    setattr(owner, name, made if field else watched(function, *watch))
    runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")


if __name__ == "__main__":
    main()
