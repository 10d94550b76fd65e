"""`python -m pdd_lightning` and `pdd-cli`."""

import os
import sys

from pdd_lightning.cli.run import PROBE_VARIABLE, about, plan
from pdd_lightning.cli.run import main as run
from pdd_lightning.process.ranks import started_by_lightning
from pdd_lightning.process.signals import PARENT_VARIABLE, RESUME, Interrupted, follow_parent, leave, listen, requeue


def main() -> None:
    """Hand over to `run`, which needs no torch, or to the Lightning command line."""
    args = sys.argv[1:]
    if (text := about(args)) is not None:
        print(text, end="")
        return
    listen()
    try:
        if args[0] == "run":
            raise SystemExit(run(args[1:]))
        if args[0] == "plan" and PROBE_VARIABLE not in os.environ:
            raise SystemExit(plan(args[1:]))
        follow_parent()
        # Lightning's children for the other devices follow this process in turn.
        os.environ[PARENT_VARIABLE] = str(os.getpid())
        # As for `python -m`: classes of the user's own are named by where they are imported from.
        sys.path.insert(0, os.getcwd())
        from pdd_lightning.cli.main import main as command_line  # noqa: PLC0415 (only what the command needs)

        command_line(args)
    except Interrupted as stop:
        print(f"pdd-cli: stopped by {stop.name}; run the same command again to continue", file=sys.stderr)
        requeue(stop.name)
        # Lightning kills the first process when another one ends with a status; that of the first one says it all.
        leave(0 if started_by_lightning() else RESUME)


if __name__ == "__main__":
    main()
