"""`pdd-cli completion`: the script that it prints completes in a shell."""

import shutil
import subprocess
from pathlib import Path

import pytest

from pdd_lightning.cli.commands import COMMANDS
from pdd_lightning.cli.main import main


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    main(["completion", shell])
    return capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pdd-cli.bash"
    path.write_text(script("bash", capsys))

    def offered(*words: str) -> list[str]:
        line = (
            f"source {path}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
            "$(complete -p pdd-cli | sed 's/.*-F \\([^ ]*\\) .*/\\1/') pdd-cli; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(["bash", "-c", line], check=True, capture_output=True, text=True)
        return done.stdout.split()

    assert offered("pdd-cli", "comp") == ["compare", "completion"]
    assert set(offered("pdd-cli", "''")) >= set(COMMANDS)
    assert "--model.ipc" in offered("pdd-cli", "fit", "--model.i")
    assert offered("pdd-cli", "plan", "--model.network.wid") == ["--model.network.width"]
    assert "ConvNet" in offered("pdd-cli", "fit", "--model.network", "Con")
    assert "--minutes" in offered("pdd-cli", "init", "--m")


def test_zsh_has_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = script("zsh", capsys)
    assert text.startswith("#compdef pdd-cli")
    assert all(f"    {name}:'" in text for name in COMMANDS)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["completion", "bahs"])
    assert exit_.value.code == 2
    assert "SHELL=bahs: did you mean bash?" in capsys.readouterr().err
