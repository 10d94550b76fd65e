"""The notebook runs from top to bottom as it is shipped."""

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from processes import ROOT

NOTEBOOK = ROOT / "examples" / "distil_digits.ipynb"


def read() -> Any:
    return nbformat.reads(NOTEBOOK.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]


def test_it_is_kept_without_outputs() -> None:
    cells = [cell for cell in read().cells if cell.cell_type == "code"]
    assert len(cells) == 5
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


class ThisPython(AsyncKernelManager):
    """A kernel in the interpreter of the tests, whatever kernels are installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = read()
    client = NotebookClient(
        notebook, timeout=600, kernel_manager_class=ThisPython, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.data for output in outputs if "data" in output]
    text = "".join([*(output.text for output in outputs if "text" in output), *(data["text/plain"] for data in shown)])
    assert "stage 3 of 3 is complete" in text
    assert "DistilledSet pdd, 3 stages: 10 + 10 + 10 images" in text
    assert any("image/png" in data for data in shown)
    assert any(data.get("text/markdown", "").startswith("| set | order |") for data in shown)
    accuracies = [float(line.split()[-2]) for line in text.splitlines() if line.startswith("after stage")]
    assert len(accuracies) == 3
    assert accuracies[-1] > 80
    assert "ipywidgets" not in text
