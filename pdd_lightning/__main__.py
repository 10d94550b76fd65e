"""`python -m pdd_lightning` and `pdd-cli`."""

import sys


def main() -> None:
    """Hand over to `run`, which needs no torch, or to the Lightning command line."""
    if sys.argv[1:2] == ["run"]:
        from pdd_lightning.run import main as run  # noqa: PLC0415 (only what the command needs)

        raise SystemExit(run(sys.argv[2:]))
    from pdd_lightning.main import main as command_line  # noqa: PLC0415

    command_line()


if __name__ == "__main__":
    main()
