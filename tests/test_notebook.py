"""The notebook runs from its first cell to its last, and shows pictures."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "dalif_colab.ipynb"


def test_the_notebook_holds_no_logic_and_no_old_outputs():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    for cell in cells:
        assert not cell.get("outputs") and "def " not in cell.source, cell.source


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Jupyter's own, about its event loop
def test_the_notebook_runs(tmp_path, monkeypatch):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("runs/", f"{tmp_path}/").replace(
            "--config.epochs=25", "--config.epochs=3"
        )
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    NotebookClient(
        notebook, timeout=280, resources={"metadata": {"path": NOTEBOOK.parent}}
    ).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    pictures = sum("image/png" in out.get("data", {}) for out in outputs)
    assert pictures == 10, pictures
    text = "".join(out.get("text", "") for out in outputs)
    assert text.count("trained and measured") == 2, text
