"""Wrong command lines end with one line that says what is wrong and what was probably meant."""

import forked
import pytest

from configs.base import get_config
from dalif_jax.settings.checks import NAMES
from dalif_jax.suggest import SYNONYMS, did_you_mean
from dalif_jax.surrogates import SURROGATES

DIGITS = "--config=configs/digits.py"
WRONG = [
    ((), "--config"),
    (("--dry_run",), "--config"),
    (("--config=configs/systems.py:glf",), "'glif'"),
    (("--config=configs/systems.py:",), "known: dalif, "),
    (("--config=configs/event_systems.py:sew_7",), "'sew_7b'"),
    (("--config=configs/table2/plif_gesture.py:dalf",), "'dalif'"),
    (("--config=configs/digits.py:dalif",), "remove ':dalif'"),
    ((DIGITS, "--config.lr=0.1"), "'learning_rate'"),
    ((DIGITS, "--config.T=4"), "'timesteps'"),
    ((DIGITS, "--config.batchsize=4"), "'batch_size'"),
    ((DIGITS, "--config.loss=TET"), "'tet'"),
    ((DIGITS, "--config.neuron=DALIF"), "'dalif'"),
    ((DIGITS, "--config.surrogate=atan"), "'arctan'"),
    ((DIGITS, "--config.optimizer=AdamW"), "'adamw'"),
    ((DIGITS, "--config.dtype=bf16"), "'bfloat16'"),
    ((DIGITS, "--config.dataset=CIFAR10"), "'cifar10'"),
    ((DIGITS, "--config.augment=crp"), "'crop'"),
    ((DIGITS, "--config.epochs=many"), "epochs"),
    ((DIGITS, "--wrokdir=x"), "workdir"),
    ((DIGITS, "epochs=3"), "epochs=3"),
]


@pytest.fixture(scope="module")
def outcomes():
    """{command line: (exit code, output)} of train.py."""
    lines = [words for words, _ in WRONG]
    return dict(zip(lines, forked.outcomes("train.py", lines), strict=True))


@pytest.mark.parametrize(("words", "named"), WRONG, ids=[" ".join(w) or "none" for w, _ in WRONG])
def test_wrong_command_line_is_one_line(outcomes, words, named):
    code, output = outcomes[words]
    assert code == 2 and output.startswith("error: ") and output.count("\n") == 1, output
    assert named in output


def test_did_you_mean_synonyms_are_settings_or_flags():
    """A synonym that names no setting would never be suggested."""
    keys = set(get_config().keys())
    names = {name for table in (*NAMES.values(), SURROGATES) for name in table}
    for word, meant in SYNONYMS.items():
        known = meant.startswith("--") or meant.partition(".")[0] in keys | names
        assert known, (word, meant)


def test_did_you_mean_far_names_give_nothing():
    assert did_you_mean("zzzz", ["dalif", "lif"]) == ""
    assert did_you_mean("LIF", ["dalif", "lif"]) == " (did you mean 'lif'?)"
