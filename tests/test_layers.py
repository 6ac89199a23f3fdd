"""Imports go one way, and each outside library has its one place."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Lowest first; a file imports only from lower rows.
LAYERS = [
    {"environment"},
    {"compiler", "keys"},
    {"surrogate", "losses", "autoaugment", "norm", "convolution", "wide_sums", "events"},
    {"seal", "runlog", "cache"},
    {"step_folders"},
    {"checkpoint"},
    {"augment", "kernel", "analysis", "aedat", "moving_digits", "records"},
    {"event_augment", "fused", "shelf", "watching"},
    {"layouts", "cifar", "neurons", "imagenet"},
    {"recordings", "classes"},
    {"frames"},
    {"data", "models"},
    {"summary", "graphs"},
    {"checks", "operations", "interchange"},
    {"config", "feed"},
    {"recipes", "places"},
    {"training"},
    {"inside", "card"},
    {"evaluation"},
    {"report"},
    {"command"},
]
ONLY_IN = {
    "orbax": {"checkpoint"},
    "matplotlib": {"analysis", "watching"},
    "tensorboardX": {"runlog"},
    "sklearn": {"data", "moving_digits"},
    "tonic": {"events", "recordings"},
    "joblib": {"frames", "feed"},
    "filelock": {"frames", "command"},
    "tensorflow_datasets": {"records"},
    "google_crc32c": {"records"},
    "grain": {"feed"},
    "nir": {"interchange"},
    "safetensors": {"card"},
    "optax": {"training"},
}


def imports(path):
    """Full names of what a file imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_file_imports_from_lower_layers_only():
    level = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    files = {path.stem: path for path in (ROOT / "dalif_jax").glob("*.py")}
    assert set(files) - {"__init__"} == set(level)
    for name, path in files.items():
        for imported in imports(path):
            parts = imported.split(".")
            if parts[0] == "dalif_jax" and parts[1] != "__version__":
                assert level[parts[1]] < level[name], f"{name} imports {parts[1]}"


def test_outside_libraries_have_one_place():
    for path in (ROOT / "dalif_jax").glob("*.py"):
        for imported in imports(path):
            library = imported.split(".")[0]
            assert path.stem in ONLY_IN.get(library, {path.stem}), f"{path.stem}: {library}"
