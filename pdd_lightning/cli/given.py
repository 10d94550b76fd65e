"""What `pdd-cli select` and `pdd-cli import` have in common: writing images that no stage distilled as a run."""

from pdd_lightning.cli.application import Application
from pdd_lightning.distilling.fitting import say
from pdd_lightning.evaluation.given_run import GivenRun
from pdd_lightning.stage.subsets import Subset
from pdd_lightning.store.files import require_writable


def make_given(app: Application, given: GivenRun, first: bool) -> Subset | None:
    """Make the images and write them as a finished run, unless that is done already.

    Args:
        app: The command.
        given: The images.
        first: Whether this process is the one that writes.

    Returns:
        The images; None if the folder holds them already.

    Raises:
        PDDError: If the folder holds something else or cannot be written, or what the images raise.
    """
    run = app.model.run
    if given.complete:
        say(f"the images are {given.done} already in {run.directory}: nothing to do")
        return None
    given.check()
    require_writable(run.stage(1).directory, "--run_dir")
    app.take()
    if first:
        app.keep(run.stage(1).config)
    subset = given.make()
    if first:
        given.write(subset)
    return subset
