"""Every configuration that is shipped parses."""

from pathlib import Path

import pytest
import yaml

from pdd_lightning.main import main

ROOT = Path(__file__).parents[2]
CONFIGS = sorted([*ROOT.glob("configs/**/*.yaml"), *ROOT.glob("tests/conf/**/*.yaml")])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.relative_to(ROOT).as_posix())
@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_a_configuration_parses(config: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--config", str(config), "--print_config"])
    printed = capsys.readouterr()
    assert exit_.value.code in (0, None), printed.err
    shown = yaml.safe_load(printed.out)
    assert shown["model"]["network"]["class_path"].startswith("pdd_lightning.networks.")
    assert shown["data"]["class_path"].startswith("pdd_lightning.datamodules.")
    given = yaml.safe_load(config.read_text())
    assert shown["model"]["iterations"] == given["model"].get("iterations", shown["model"]["iterations"])


def test_there_are_configurations() -> None:
    assert ROOT / "configs" / "smoke" / "stage.yaml" in CONFIGS
