"""Imports go one way: between rooms, inside them, and to outside libraries."""

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dalif_jax"
# Lowest first. A room, a folder or a file of the package, imports from lower ones and itself.
ROOMS = [
    "atomic_write",
    "suggest",
    "strict_json",
    "file_lock",
    "surrogates",
    "ops",
    "norms",
    "losses",
    "attention",
    "neurons",
    "networks",
    "data",
    "settings",
    "analysis",
    "training",
    "exchange",
    "runs",
]
# The one place of an outside library: a file, or a whole room.
ONLY_IN = {
    "orbax": ["runs.checkpoint", "runs.saved_steps"],
    "matplotlib": ["analysis.figures", "analysis.watching"],
    "tensorboardX": ["runs.runlog"],
    "sklearn": ["data.digits"],
    "tonic": ["data.events.events", "data.events.recordings"],
    "joblib": ["data.events.conversion", "data.feed"],
    "filelock": ["file_lock"],
    "tensorflow_datasets": ["data.records"],
    "google_crc32c": ["data.records"],
    "grain": ["data.feed"],
    "nir": ["exchange.interchange", "exchange.nir_file"],
    "h5py": ["exchange.nir_file"],
    "safetensors": ["exchange.card"],
    "huggingface_hub": ["exchange.hub"],
    "optax": ["training"],
}


def dotted(path):
    """The name of a file inside the package: "data.events.frames"; that of a room for its own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path):
    """Full names of what a file imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path):
    """The files of the package that a file imports, by their names as in FILES."""
    for imported in imports(path):
        first, *parts = imported.split(".")
        if first == "dalif_jax":
            # The longest part that is a file; the rest is a name in it.
            while parts and ".".join(parts) not in FILES:
                parts.pop()
            yield ".".join(parts)


def room(name):
    return name.split(".")[0]


def test_every_file_lies_in_a_room():
    assert {room(name) for name in FILES} - {""} == set(ROOMS)


@pytest.mark.parametrize("name", [name for name in FILES if name])
def test_rooms_import_from_lower_rooms_only(name):
    for imported in set(own_imports(FILES[name])) - {""}:
        here, there = ROOMS.index(room(name)), ROOMS.index(room(imported))
        assert there <= here, f"{name} imports {imported}, which lies higher"


def test_files_import_one_another_in_one_direction():
    """Inside a room too; a package's own file, which hands on names of the others, is the last."""
    graph = {name: set(own_imports(path)) - {name, ""} for name, path in FILES.items() if name}
    # What a package hands on comes from its files: who imports the package imports them, and a
    # file inside that imports its own package goes in a circle.
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("table", [name for name in FILES if name.endswith(".table")])
def test_pieces_of_a_table_know_nothing_of_one_another(table):
    """Each can be read, and taken out, alone; what pieces share lies beside them."""
    package = table.removesuffix(".table")
    # The table imports its pieces whole, and names alone from what they share.
    pieces = {
        f"{package}.{alias.name}"
        for node in ast.walk(ast.parse(FILES[table].read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == f"dalif_jax.{package}"
        for alias in node.names
    }
    assert len(pieces) > 1 and pieces <= set(FILES)
    for piece in pieces:
        others = set(own_imports(FILES[piece])) & (pieces | {table, package})
        assert not others, f"{piece} imports {others}"


def test_outside_libraries_have_one_place():
    for name, path in FILES.items():
        for library in {imported.split(".")[0] for imported in imports(path)} & set(ONLY_IN):
            allowed = ONLY_IN[library]
            assert any(name == a or name.startswith(f"{a}.") for a in allowed), f"{name}: {library}"


def test_what_comes_before_jax_imports_it_last():
    """The surroundings are settled before JAX reads them: nothing on the way to it imports JAX."""
    before = "import sys, dalif_jax, dalif_jax.runs; sys.exit('jax' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", before], env=environment).returncode == 0
