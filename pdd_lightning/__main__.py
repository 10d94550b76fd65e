"""`python -m pdd_lightning` and `pdd-cli`."""

import os
import sys

from pdd_lightning.run import INTERRUPTED, OVERVIEW, PROBE_VARIABLE, plan
from pdd_lightning.run import main as run


def main() -> None:
    """Hand over to `run`, which needs no torch, or to the Lightning command line."""
    args = sys.argv[1:]
    if not args or args[0] in ("-h", "--help"):
        print(OVERVIEW, end="")
        return
    try:
        if args[0] == "run":
            raise SystemExit(run(args[1:]))
        if args[0] == "plan" and PROBE_VARIABLE not in os.environ:
            raise SystemExit(plan(args[1:]))
        # As for `python -m`: classes of the user's own are named by where they are imported from.
        sys.path.insert(0, os.getcwd())
        from pdd_lightning.main import main as command_line  # noqa: PLC0415 (only what the command needs)

        command_line(args)
    except KeyboardInterrupt:
        print("pdd-cli: interrupted; run the same command again to continue", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
