"""What both commands share: flags with clear errors, and a warning for an idle accelerator."""

import atexit
import contextlib
import functools
import itertools
import os
import platform
import re
import signal
import sys
import threading
import traceback
from pathlib import Path

import jax
from absl import app, flags, logging

from dalif_jax import __version__
from dalif_jax.data.sets import DataError
from dalif_jax.exchange.card import CardError
from dalif_jax.file_lock import LockedError, file_lock
from dalif_jax.runs import cluster, compiler, signals
from dalif_jax.runs.checkpoint import CheckpointError
from dalif_jax.runs.runlog import LogError
from dalif_jax.settings import config, recipes

# What a run keeps in its workdir under these names, beside PNG figures.
FOLDERS = ("checkpoints", "tensorboard")
WRITTEN = (".png", ".html")
FILES = (".lock", "config.json", "init_from.json", "metrics.jsonl", "eval.json", "report.html")


class NonFinite(RuntimeError):
    """The loss or the gradient stopped being a number; nothing after it was saved."""


class Signals:
    """SIGINT, SIGTERM and SIGHUP noted, not obeyed: the loop ends its step, saves, and exits.

    Further signals change nothing, so that a save is never cut short. Of several processes all stop
    after the same step, and exit with the same code, whichever of them received the signal.
    """

    def __init__(self):
        self.received = None  # the first signal

    def __enter__(self):
        self._before = {} if cluster.size() > 1 else signals.handle(self._note)
        return self

    def reached(self):
        """Whether to stop now. Every process must call it equally often."""
        if cluster.size() > 1 and (number := cluster.STOP.reached()):
            self.received = number
        return self.received is not None

    def end(self):
        """Let the next signal end the program: after the loop nothing is left to save.

        Raises:
          SystemExit: a signal came too late to stop the loop.
        """
        signals.exit_on_signals()
        if number := self.received or cluster.STOP.requested:
            raise SystemExit(128 + number)

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        if self.received is None:
            self.received = number
            signals.notice(f"{signals.name_of(number)}: {STOPS}")

    @property
    def exit_code(self):
        """What shells expect of a program ended by the signal: 130, 143 or 129."""
        return 128 + self.received


STOPS = "the step is finished and saved, then this run stops"


def _request_stop(number, _):
    """Handle a signal to one of several processes."""
    if cluster.STOP.request(number):
        signals.notice(f"{signals.name_of(number)}: {STOPS}")


def join_cluster():
    """Become one of several processes that train one run, as Slurm, Open MPI, Kubernetes or a TPU
    pod describe it to JAX. All but the first keep silent: they write nothing.

    Raises:
      ConfigError: JAX finds no description of a cluster in the environment.
    """
    # It knows SIGTERM alone, and its handler would replace this program's.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize()
    except ValueError as error:
        raise config.ConfigError(
            f"--distributed, but JAX finds no cluster here: {error}. Start the command with srun, "
            "mpirun, in a Kubernetes job or on every host of a TPU pod"
        ) from error
    if cluster.size() > 1:
        signals.handle(_request_stop)
        cluster.STOP.listen()
    if cluster.rank():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  open until the process ends


def check_places(workdir):
    """Refuse a workdir with a link, or something of another type, under a name that a run writes.

    A run directory from elsewhere can hold links to files of this machine. The workdir itself may
    be a link.

    Raises:
      ConfigError: names it.
    """
    for path in sorted(Path(workdir).iterdir()) if Path(workdir).is_dir() else ():
        name = path.name.removesuffix(".tmp")
        name = re.sub("^(eval|report)_best", r"\1", name)
        if not (name in FOLDERS or name in FILES or path.suffix in WRITTEN):
            continue
        if path.is_symlink():
            wrong = "is a link, and a run writes"
        elif name in FOLDERS and not path.is_dir():
            wrong = "is no folder, which a run keeps"
        elif name not in FOLDERS and not path.is_file():
            wrong = "is no file, which a run keeps"
        else:
            continue
        raise config.ConfigError(
            f"{path} {wrong} under that name; move it away, or use another --workdir"
        )
    for folder in FOLDERS:
        for path in sorted(Path(workdir, folder).glob("*")):
            if path.is_symlink():
                raise config.ConfigError(
                    f"{path} is a link, and a run writes under that name; move it away, or use "
                    "another --workdir"
                )


@contextlib.contextmanager
def only_one(workdir):
    """Hold the workdir's lock, or refuse at once. The kernel frees it when the process ends.

    Raises:
      ConfigError: another process is using the workdir, or see check_places.
    """
    check_places(workdir)
    if cluster.rank():  # the first process holds the lock for all
        yield
        return
    created = not Path(workdir).exists()
    try:
        Path(workdir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise config.ConfigError(
            f"--workdir={workdir} cannot be made: {error.strerror}; name another folder"
        ) from error
    try:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(file_lock(Path(workdir) / ".lock", timeout=0))
            except LockedError as error:
                raise config.ConfigError(
                    f"another process is training in {workdir}; use another --workdir, or stop it "
                    "first"
                ) from error
            yield
    finally:
        # What never became a run leaves nothing behind.
        if created and [path.name for path in Path(workdir).iterdir()] == [".lock"]:
            (Path(workdir) / ".lock").unlink()
            Path(workdir).rmdir()


# What a user can mend.
MISTAKES = (
    config.ConfigError, DataError, CheckpointError, LogError, CardError, compiler.Unsupported,
)  # fmt: skip


def parse_flags(argv):
    """Parse the command line; a wrong key or file ends the program with one clear line.

    Where the recipe's warm-up no longer fits the epochs it is shortened, see recipes.fit_warm_up.
    """
    if "--version" in argv[1:]:
        print(f"dalif_jax {__version__}, jax {jax.__version__}, Python {platform.python_version()}")
        sys.exit()
    if {"--help", "-help", "-h", "-?"} & set(argv[1:]):
        show_help()
    recipe = None
    try:
        if "config" in flags.FLAGS:
            recipe = given(argv, "config")
            if recipe:
                recipes.check(recipe)
        argv, own = recipes.own_words(argv)
        whole, sys.argv = sys.argv, argv  # where ml_collections looks for what is overridden
        try:
            rest = flags.FLAGS(argv)
        finally:
            sys.argv = whole
        if len(rest) > 1:
            raise config.ConfigError(f"unexpected argument {rest[1]!r}; settings are --config.x=y")
        if "config" in flags.FLAGS and flags.FLAGS.config is None:
            raise config.ConfigError("--config is missing: a file of configs/")
        if recipe and (line := recipes.settle(flags.FLAGS, own)):
            print(line)
        return rest
    except (flags.Error, config.ConfigError) as error:
        raised = recipes.raised_in_recipe(error)
        stop(recipes.failed(raised, recipe) if raised else error)
    except (AttributeError, KeyError) as error:
        if "has no attribute 'get_config'" in str(error):
            stop(f"--config={recipe} has no function get_config, as every recipe has")
        key = recipes.named_key(error)
        where = "on the command line"
        if not any(arg.split("=")[0].endswith(f".{key}") for arg in argv):
            where = "inside the recipe"
        stop(config.unknown_key(key, where) if key else error)
    except (OSError, TypeError, ValueError) as error:
        stop(error)
    except Exception as error:
        stop(recipes.failed(error, recipe) if recipe else error)


def given(argv, flag):
    """The value of --flag=value or --flag value on a command line; None without one."""
    for word, after in itertools.zip_longest(argv[1:], argv[2:]):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name == flag:
            return value if equals else after
    return None


def show_help():
    """Print what the program is, its recipes and keys where it takes any, and its flags; exit."""
    parts = [(sys.modules["__main__"].__doc__ or "").strip()]
    if "config" in flags.FLAGS:
        parts.append(recipes.help_text())
    parts.append(f"flags:\n{flags.FLAGS.main_module_help()}")
    print("\n\n".join(parts), flush=True)
    sys.exit(0)


def report_errors(main):
    """Print the mistakes a user can mend as one line, without a traceback, and exit with 2;
    a run that stopped being finite exits with 1."""

    @functools.wraps(main)
    def run(argv):
        try:
            # orbax reports each phase of a save at INFO.
            logging.set_verbosity(logging.WARNING)
            return main(argv)
        except MISTAKES as error:
            cluster.announce(error)
            stop(error)
        except MemoryError as error:
            cluster.announce("out of memory")
            stop(
                f"out of memory: {error or 'the process may hold no more'}. Use a smaller "
                "--config.batch_size, or raise the limit of memory (ulimit -v)",
                code=1,
            )
        except OSError as error:
            if error.strerror is None:
                raise
            cluster.announce(error)
            stop(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
        except NonFinite as error:
            stop(error, code=1)

    return run


EXIT_SECONDS = 10  # for what libraries do at the exit
EXIT_SECONDS_CLUSTER = 60  # with other processes to wait for


def run_program(main):
    """Run a main function as a program: when it has ended, the process ends.

    Python waits at its exit for threads without limit, and a library whose thread could not start
    can leave others that wait for it. So the exit handlers get a limited time, and then the process
    ends with the exit code of `main`, whatever still runs.
    """
    code = 1
    try:
        app.run(main, flags_parser=parse_flags)
        code = 0
    except SystemExit as error:
        code = error.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
        code = code or 0
    except BaseException as error:
        cluster.announce(f"{type(error).__name__}: {error}")
        sys.excepthook(*sys.exc_info())
    limit = EXIT_SECONDS if cluster.size() == 1 else EXIT_SECONDS_CLUSTER
    with contextlib.suppress(ValueError, AttributeError):  # not the main thread; Windows
        signal.signal(signal.SIGALRM, lambda *_: os._exit(code))
        signal.alarm(limit)
    with contextlib.suppress(RuntimeError):  # no more threads; the alarm is left
        threading.Timer(limit, os._exit, (code,)).start()
    try:
        atexit._run_exitfuncs()  # Python calls these only after it has waited for threads
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def stop(error, code=2):
    print(f"error: {error}", file=sys.stderr, flush=True)
    sys.exit(code)


def devices():
    """How many devices JAX runs on.

    Raises:
      ConfigError: none of the kind that JAX_PLATFORMS asks for.
    """
    try:
        return jax.device_count()
    except (RuntimeError, AssertionError) as error:
        raise config.ConfigError(
            f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}, but JAX finds no such device: "
            f"{str(error).splitlines()[0] if str(error) else 'none at all'}; unset it to take what "
            "there is"
        ) from error


def accelerator_warning():
    """Warn loudly when the machine has a GPU or TPU and JAX runs on CPU, unless asked to."""
    if jax.default_backend() != "cpu" or os.environ.get("JAX_PLATFORMS") == "cpu":
        return
    for kind, pattern, extra in (
        ("NVIDIA GPU", "nvidia[0-9]*", "cuda13"),
        ("TPU", "accel[0-9]*", "tpu"),
    ):
        if any(Path("/dev").glob(pattern)):
            print(
                f"{'!' * 78}\nThis machine has a {kind}, but JAX runs on its CPU. Install the "
                f'build for it:\n    pip install -U "jax[{extra}]=={jax.__version__}"\n'
                f"or set JAX_PLATFORMS=cpu to train on the CPU on purpose.\n{'!' * 78}",
                file=sys.stderr,
                flush=True,
            )
