"""Model cards: the same logits after a round trip; damaged and foreign folders are named."""

import json

import jax
import numpy as np
import pytest

from configs.digits import get_config
from dalif_jax import training
from dalif_jax.data.feed import feed_of
from dalif_jax.exchange import card
from dalif_jax.settings import config
from dalif_jax.training.evaluation import evaluate, report, structure_of


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    settings = get_config()
    settings.model, settings.timesteps = "tiny", 2
    settings.data_dir = "/somewhere/private"
    program = training.make_program(settings, 1, training.make_mesh())
    # Louder weights: those of the start leave the last layer silent.
    state = program.init()
    state = state.replace(params=jax.tree.map(lambda leaf: 3 * leaf, state.params))
    splits = config.load_data(settings)
    structure = structure_of(program.model, settings)
    results = {
        name: evaluate(program, state, feed_of(splits[name], program, settings, 1),
                       structure)
        for name in ("test", "unseen_writers")
    }  # fmt: skip
    values = report(settings, state, 7, "best", results)
    card.export(folder, settings, program.model, state, values)
    return folder, settings, program, state, values


def copy(exported, tmp_path):
    for path in exported[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def change(folder, name, **values):
    """Other values in a JSON file of a card, which is then one of an earlier version: not tied."""
    stated = json.loads((folder / "eval.json").read_text())
    stated.pop("sha256", None)
    (folder / "eval.json").write_text(json.dumps(stated))
    changed = json.loads((folder / name).read_text()) | values
    (folder / name).write_text(json.dumps(changed))


def test_a_card_read_back_gives_the_same_logits(exported):
    folder, _, program, state, values = exported
    given, again, loaded, stated = card.load(folder)
    assert stated == json.loads(json.dumps(values)) and given.timesteps == 2
    x = jax.random.normal(jax.random.key(0), (4, 1, 8, 8, 1))
    logits = [
        jax.jit(lambda s, p=p: p.model.apply(
            {"params": s.params, "batch_stats": s.batch_stats}, x, train=False, timesteps=2)[0])(s)
        for p, s in ((program, state), (again, loaded))
    ]  # fmt: skip
    np.testing.assert_array_equal(*logits)
    assert np.ptp(logits[0]) > 0


def test_a_card_says_what_it_is_and_nothing_of_the_machine(exported):
    folder, _, _, _, values = exported
    names = {path.name for path in folder.iterdir()}
    assert names == {"weights.safetensors", "config.json", "eval.json", "network.nir", "README.md"}
    page = (folder / "README.md").read_text()
    assert "tiny with `dalif` neurons on digits" in page and "chosen on the test set" in page
    assert f"| test | 287 | {values['accuracy']:.2%} |" in page
    assert "| where from |" not in page  # nothing was told of it
    told = card.page(exported[1], values, "", [("seed", "7"), ("code", "abc")])
    assert "| where from | |\n|---|---|\n| seed | 7 |\n| code | abc |\n\nMeasured" in told
    assert "private" not in "".join(
        (folder / n).read_text() for n in ("config.json", "eval.json", "README.md")
    )


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json", "eval.json"])
def test_a_missing_or_damaged_part_is_named(exported, tmp_path, name):
    folder = copy(exported, tmp_path)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(
        (card.CardError, config.ConfigError), match=r"damaged|not readable"
    ) as error:
        card.load(folder)
    assert str(folder) in str(error.value)
    (folder / name).unlink()
    with pytest.raises((card.CardError, config.ConfigError), match=name):
        card.load(folder)


def test_weights_of_another_network_are_refused_with_both_sides(exported, tmp_path):
    folder = copy(exported, tmp_path)
    change(folder, "config.json", model="mini")
    with pytest.raises(card.CardError, match=r"weights.safetensors.*by config.json"):
        card.load(folder)


def test_a_card_without_nir_says_how_to_get_it(exported, tmp_path):
    folder, settings, program, state, values = exported
    card.export(tmp_path, settings, program.model, state, values, nir=False)
    assert not (tmp_path / "network.nir").exists()
    assert "adds the NIR file" in (tmp_path / "README.md").read_text()
    weights = (folder / "weights.safetensors").read_bytes()
    assert (tmp_path / "weights.safetensors").read_bytes() == weights


def test_a_card_is_measured_on_any_number_of_devices(exported, tmp_path):
    folder = copy(exported, tmp_path)
    change(folder, "config.json", batch_size=6, eval_batch_size=50)
    assert jax.device_count() == 8
    given = card.load(folder)[0]
    assert (given.batch_size, given.eval_batch_size) == (8, 56)


def test_a_network_without_a_nir_form_says_why(exported, tmp_path):
    _, settings, program, state, values = exported
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * 0 - 1 if path[-1].key == "b" else leaf, state.params
    )
    card.export(tmp_path, settings, program.model, state.replace(params=params), values)
    assert not (tmp_path / "network.nir").exists()
    assert "has no NIR file" in (tmp_path / "README.md").read_text()
    assert "beta" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("right", "examples", "word"),
    [(280, 287, "agrees with"), (279, 287, "DIFFERS from"), (560, 574, "DIFFERS from")],
)
def test_a_card_is_told_whether_it_says_what_was_measured(right, examples, word):
    """By the number of right answers: percentages of two digits hide the last one of 10,000."""
    stated = {"accuracy": right / examples, "examples": examples}
    line = card.agreement(stated, {"accuracy": 280 / 287, "examples": 287})
    assert line.startswith(f"{word} the card: ") and "\n" not in line
    assert f"{right / examples:.2%} of {examples}" in line and "97.56% of 287" in line


@pytest.mark.parametrize("keys", [{}, {"attention": "asa"}, {"membrane_bn": True}])
def test_kernels_used_as_bfloat16_are_kept_so_and_give_the_same_bits(exported, tmp_path, keys):
    settings = exported[1].copy_and_resolve_references()
    settings.update({"dtype": "bfloat16", **keys})
    program = training.make_program(settings, 1, training.make_mesh())
    state = program.init()
    state = state.replace(params=jax.tree.map(lambda leaf: 3.1 * leaf, state.params))
    card.export(tmp_path, settings, program.model, state, exported[4], nir=False)
    _, again, loaded, _ = card.load(tmp_path)
    x = jax.random.normal(jax.random.key(0), (4, 1, 8, 8, 1), "bfloat16")
    logits = [
        p.model.apply(
            {"params": s.params, "batch_stats": s.batch_stats}, x, train=False, timesteps=2
        )
        for p, s in ((program, state), (again, loaded))
    ]
    np.testing.assert_array_equal(*logits)
    assert np.ptp(np.float32(logits[0])) > 0
    kernels = sum(
        leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(state.params)
        if path[-1].key == "kernel"
    )  # fmt: skip
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.batch_stats)))
    size = (tmp_path / "weights.safetensors").stat().st_size
    assert weights - 2 * kernels <= size < weights - 2 * kernels + 20_000
