"""Model cards: the same logits after a round trip; damaged and foreign folders are named."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

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


def test_export_onto_another_folder_changes_nothing(exported, tmp_path):
    _, settings, program, state, values = exported
    for name in ("README.md", "config.json", "thesis.tex"):
        place = tmp_path / name
        place.mkdir()
        (place / name).write_text("mine")
        with pytest.raises(card.CardError, match="not a model card"):
            card.export(place, settings, program.model, state, values)
        assert [path.name for path in place.iterdir()] == [name]
        assert (place / name).read_text() == "mine"


def test_export_that_fails_keeps_the_earlier_card(exported, tmp_path, monkeypatch):
    folder = copy(exported, tmp_path)
    (folder / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    _, settings, program, state, values = exported

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(card, "page", full)
    with pytest.raises(OSError, match="No space"):
        card.export(folder, settings, program.model, state, values)
    with pytest.raises(OSError, match="No space"):
        card.export(tmp_path / "new", settings, program.model, state, values)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    monkeypatch.undo()
    card.export(folder, settings, program.model, state, values)  # another file in it is kept
    assert (folder / "notes.txt").read_text() == "mine"


def test_export_replaces_links_and_does_not_follow(exported, tmp_path):
    folder, victim = tmp_path / "card", tmp_path / "victim"
    folder.mkdir()
    copy(exported, folder)
    victim.write_text("mine")
    for name in ("README.md", "network.nir"):
        (folder / name).unlink()
        (folder / name).symlink_to(victim)
    _, settings, program, state, values = exported
    card.export(folder, settings, program.model, state, values)
    assert victim.read_text() == "mine"
    assert not any(path.is_symlink() for path in folder.iterdir())


def test_card_holds_and_uses_no_path_of_a_machine(exported, tmp_path):
    _, settings, program, state, values = exported
    settings = settings.copy_and_resolve_references()
    private = "/home/somebody/private"
    settings.update({key: private for key in ("data_dir", "cache_dir", "init_from")})
    with settings.unlocked():  # as a scan of a dataset leaves it, with a field of this machine
        settings.found = ConfigDict({"train": 3, "fingerprint": (("a", 3, "00"),), "at": private})
    settings.lock()
    card.export(tmp_path, settings, program.model, state, values)
    for path in tmp_path.iterdir():
        assert private.encode() not in path.read_bytes(), path.name
    found = json.loads((tmp_path / "config.json").read_text())["found"]
    assert found == {"train": 3, "fingerprint": [["a", 3, "00"]]}
    change(
        tmp_path, "config.json", found={}, data_dir=private, cache_dir=private, init_from=private
    )
    loaded = card.load(tmp_path)[0]
    assert (loaded.data_dir, loaded.cache_dir, loaded.init_from) == ("", "", "")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(exported, tmp_path, value):
    from safetensors.numpy import load_file, save_file

    folder = copy(exported, tmp_path)
    arrays = load_file(folder / "weights.safetensors")
    arrays["params/head/kernel"] = np.full_like(arrays["params/head/kernel"], value)
    save_file(arrays, folder / "weights.safetensors", card.FORMAT)
    with pytest.raises(card.CardError, match=r"params/head/kernel are not finite"):
        card.weights(folder)


def test_weights_of_another_measurement_are_refused(exported, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = copy(exported, tmp_path)
    arrays = load_file(folder / "weights.safetensors")
    arrays["params/head/kernel"] = 2 * arrays["params/head/kernel"]
    save_file(arrays, folder / "weights.safetensors", card.FORMAT)
    with pytest.raises(card.CardError, match=r"weights\.safetensors is not the file"):
        card.load(folder)


def test_page_shows_foreign_text_and_does_nothing(exported):
    evil = "<script>alert(1)</script> [x](http://a.b) |`*"
    values = exported[4] | {"chosen_on": evil}
    text = card.page(exported[1], values, "", [("trained on", evil)])
    assert "<script" not in text and "[x]" not in text and "http://a.b" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
