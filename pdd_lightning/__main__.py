"""`python -m pdd_lightning` and `pdd-cli`."""

from pdd_lightning.cli.entrance import enter as main

__all__ = ["main"]

if __name__ == "__main__":
    main()
