"""Figures in prose are those of the committed JSON, and commands in it those that made them."""

import json
import re
import runpy
from pathlib import Path

import pytest

from ablations import figures, ingredients, results, search
from ablations import found as found_in

ROOT = Path(__file__).resolve().parent.parent
ALL_SERIES = results.load()
PUBLISHED = {
    f"{row['percent']:.2f}" for row in json.loads((ROOT / "docs/published.json").read_text())
}
REGENERATE = "python -m ablations.results writes it anew"


def test_marked_figures_are_of_the_committed_runs():
    pages = figures.documents(ALL_SERIES)
    assert {p.name for p in pages} >= {"README.md", "digits.py", "cifar10_fast.py"}
    for path, text in pages.items():
        assert path.read_text() == text, f"{path.relative_to(ROOT)}: {REGENERATE}"


def test_every_ablation_stands_on_the_page_of_ablations():
    marked = re.findall(r"figures: (\S+) -->", (ROOT / "docs/ablations/README.md").read_text())
    assert sorted(marked) == sorted(p.stem for p in (ROOT / "docs/ablations").glob("*.json"))


@pytest.mark.parametrize("path", ["README.md", "cards/README.md", "docs/ablations/README.md",
                                  "docs/scale.md", "notebooks/dalif_colab.ipynb"])  # fmt: skip
def test_no_accuracy_stands_outside_the_marks(path):
    text = figures.MARKED.sub("", (ROOT / path).read_text())
    assert not re.findall(r"\b\d\d\.\d+ ?%", text)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda p: p.stem)
def test_accuracies_a_recipe_names_are_measured_or_published(path):
    if path.stem in figures.recipes(ALL_SERIES):
        return  # its whole sentence is written from the runs, see above
    derived = {"81.64": "the paper's best row", "70.79": "MPBN's"}
    for figure in re.findall(r"\b(\d\d\.\d\d) %", path.read_text()):
        assert figure in PUBLISHED | set(derived), f"{path.name}: {figure} %"


PROGRAMS = re.compile(
    r"python -m ablations\.(fig1a|fig2|fig3|key|decays|timesteps|ingredients|search) "
    r"(.*?)(?:  # (\d+) .*|`.*)?$",
    re.MULTILINE,
)

SEEDS = {"fig1a": 3, "timesteps": 3, "ingredients": 3, "search": 1}  # unless told; of others 5


def ablation_lines():
    for page in ("README.md", "docs/ablations/README.md"):
        for program, words, count in PROGRAMS.findall((ROOT / page).read_text()):
            given = dict(re.findall(r"--([\w.]+)[ =](\S+)", words))
            sweep = program == "key" and "key" not in given
            if "part" not in given["workdir"] and not sweep:
                yield page, program, given, count


@pytest.mark.parametrize(("page", "program", "given", "count"), list(ablation_lines()))
def test_ablation_lines_are_those_that_made_the_figures(page, program, given, count):
    kind = given["key"] if program == "key" else program
    runs = ALL_SERIES[f"ablations/{kind}_{Path(given['config']).stem}"]["runs"]
    varied = {"seed", "neuron", "alpha", "beta", "timesteps", "data_dir", given.get("key")}
    varied |= {"decays": {"per_channel", "membrane_bn"}, "timesteps": {"epochs"}}.get(kind, set())
    if kind == "ingredients":
        recipe = runpy.run_path(str(ROOT / given["config"]))["get_config"]()
        varied |= {key for keys in ingredients.settings(recipe).values() for key in keys}
    if kind == "search":
        searched = search.settings(given["systems"].split(","), 0.1)
        varied |= {key for keys in searched.values() for key in keys}
    asked = {k.removeprefix("config."): v for k, v in given.items() if k.startswith("config.")}
    asked.pop("data_dir", None)  # a place of one's own
    for run in runs:
        keys = found_in.keys_of(run)
        assert {k: v for k, v in keys.items() if k not in varied or k in asked} == asked, page
    seeds = int(given.get("seeds", SEEDS.get(program, 5)))
    assert {run["seed"] for run in runs} == set(range(seeds))
    assert count in ("", str(len(runs))), page
    names = {run["name"] for run in runs}
    if program == "key":
        assert names == {f"{kind}={value}" for value in given["values"].split(",")}
    if program == "fig2":
        for flag, place in (("steps", 0), ("arms", 1)):
            used = {name.split("-")[place].removeprefix("T") for name in names}
            every = {"steps": "1,2,4", "arms": "baseline,spatial,temporal,both,control"}
            assert used == set(given.get(flag, every[flag]).split(","))
    if program == "search":
        assert names == set(searched)
    if program == "decays":
        assert {name[1:].split("-")[0] for name in names} == set(
            given.get("steps", "8,16").split(",")
        )


def run(seed=0, accuracy=0.5, **keys):
    return {
        "name": "r", "seed": seed, "accuracy": accuracy, "examples": 100, "other_splits": {},
        "command": ["train.py", "--config", "configs/nmnist.py", f"--config.seed={seed}"],
        "seconds": 60.0, "device": None, **keys,
    }  # fmt: skip


def series(*runs, jax="0.12.0"):
    return {"cpu": "some CPU", "cores": 2, "jax": jax, "runs": list(runs)}


def test_a_recipe_says_its_command_its_seeds_and_its_version():
    found = {"runs/x": series(run(0, 0.5), run(3407, 0.7))}
    assert figures.expected("nmnist", found) == (
        "Expected: test 60.00 (50.00 to 70.00) %, 2 seeds; with seed 3407 70.00 %. Last epoch, "
        "60 s a run, some CPU, 2 cores, jax 0.12.0."
    )
    # A seed alone has no range over seeds: what 50 of 100 can tell stands there.
    (row,) = figures.measured({"runs/x": series(run(0, 0.5))})[2:]
    assert (
        "50.00 % with `--config.seed=0`" in row and "(Wilson's 95 % interval 40.4 to 59.6)" in row
    )
    text = '"""N-MNIST.\n\nSmall. Expected: 99 %\nof all.\n"""\n\nimport x\n'
    again = figures.docstring(text, "nmnist", found)
    assert again.startswith('"""N-MNIST.\n\nSmall. Expected: test 60.00') and "99" not in again
    assert again.endswith('jax 0.12.0.\n"""\n\nimport x\n')
    assert figures.docstring(again, "nmnist", found) == again


@pytest.mark.parametrize(
    ("words", "plain"),
    [((), True), (("neuron=both",), True), (("data_dir=...",), True), (("neuron=lif",), False),
     (("epochs=3",), False)],
)  # fmt: skip
def test_runs_that_change_a_recipe_are_not_the_recipes(words, plain):
    one = run()
    one["command"] = one["command"] + [f"--config.{word}" for word in words]
    assert figures.is_plain(one) == plain
    assert ("nmnist" in figures.recipes({"runs/x": series(one)})) == plain
