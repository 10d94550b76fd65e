"""`pdd-cli doctor`: what there is, and what would limit a run."""

from pathlib import Path

import pytest
import torch

from pdd_lightning.cli.main import main


def told(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, str]:
    """Every line by its first words; limits by their own."""
    main(["doctor", *args])
    lines = capsys.readouterr().out.splitlines()
    return {line.partition("  ")[0]: line for line in lines}


def test_versions_and_devices_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys)
    assert found["torch"].split() == ["torch", torch.__version__]
    assert f"{torch.get_num_threads()} threads" in found["cpu"]
    assert "GiB free" in found["memory"]


def test_a_missing_compiler_is_a_limit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    found = told(capsys)
    assert found["compiler"].split() == ["compiler", "none"]
    assert any(line.startswith("limit: no C++ compiler") for line in found)


def test_a_folder_that_cannot_be_written_is_a_limit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = told(capsys, "--run_dir", str(tmp_path / "file" / "run"))
    assert found["disk"].endswith(", which cannot be written")
    assert any(line.endswith("name another folder with --run_dir") for line in found)


def test_a_gpu_is_no_limit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert any("no CUDA GPU" in line for line in told(capsys)) == (not torch.cuda.is_available())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert not any("no CUDA GPU" in line for line in told(capsys))


def test_a_misspelt_option_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["doctor", "--run_dri", "x"])
    assert exit_.value.code == 2
    assert "--run_dri: there is no such option; did you mean --run_dir?" in capsys.readouterr().err
