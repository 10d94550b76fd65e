"""The hand-over from one stage to the next."""

import shutil
from collections.abc import Sequence
from statistics import fmean

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from pdd_lightning.stage.course import outside
from pdd_lightning.stage.logs import finish, scalars
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.one_stage import header
from pdd_lightning.stage.pictures import draw_pictures
from pdd_lightning.stage.subsets import Subset, union_of, write_subset
from pdd_lightning.stage.transition import Transition, make_transition
from pdd_lightning.stage.witnesses import train_witnesses
from pdd_lightning.store.files import write_tensors
from pdd_lightning.store.versions import made_with


class StageCallback(Callback):
    """Exports a finished stage's subset and carries the model states that it trains into the next stage.

    The subset is written first, then the end states of every member of the bank, then the manifest that declares
    the stage complete: an interruption in between continues where it was.

    Args:
        loggers: Told of how good the end states are, one step for each stage.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pdd_lightning.datamodules import DigitsData
        >>> from pdd_lightning.dynamics import StartStates
        >>> from pdd_lightning.networks import ConvNet
        >>> from pdd_lightning.objectives import MeanEmbedding
        >>> parts = {"network": ConvNet(width=4), "objective": MeanEmbedding(), "dynamics": StartStates(2)}
        >>> quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        >>> trainer = Trainer(accelerator="cpu", callbacks=[StageCallback()], enable_checkpointing=False, **quiet)
        >>> with TemporaryDirectory() as run:
        ...     module = StageModule(**parts, iterations=2, transition=False, run_dir=run)
        ...     trainer.fit(module, datamodule=DigitsData())
        ...     module.run.completed()
        1
    """

    def __init__(self, loggers: Sequence[Logger] = ()) -> None:
        self.loggers = loggers

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish the stage, if all its steps are done (PDD section 4.1)."""
        # Not on_train_end: that hook is skipped when a resumed stage has no step left to do.
        module = pl_module
        assert isinstance(module, StageModule)
        if trainer.global_step < module.iterations or module.folder.complete:
            return
        subset = module.kept()
        if trainer.is_global_zero:
            write_subset(module.folder, subset)
        union = union_of([*module.previous, subset])
        assert union is not None
        waiting = module.folder.transition
        transition: Transition | None = None
        if module.options.transition:
            transition = make_transition(
                module.context, union.to(module.context.device), subset.rate, module.options.recipe, waiting
            )
        witnesses = train_witnesses(module.options, module.context, module.previous, subset)
        module.context.ranks.barrier()  # the others must have read the members before they go
        if trainer.is_global_zero:
            self._finish(trainer, module, subset, transition, witnesses)
            for folder in (waiting, module.folder.checkpoints, module.folder.renewals):
                shutil.rmtree(folder, ignore_errors=True)
            module.folder.last_good.unlink(missing_ok=True)
        module.context.ranks.barrier()

    def _finish(
        self,
        trainer: Trainer,
        module: StageModule,
        subset: Subset,
        transition: Transition | None,
        witnesses: Transition | None,
    ) -> None:
        folder = module.folder
        if transition is not None:
            transition.bank.write(folder.end_states)
        if witnesses is not None:
            witnesses.bank.write(folder.witnesses)
        write_tensors(module.run.preprocessing, module.data.preprocessing.tensors())
        self._draw(module, [*module.previous, subset])
        accuracies = torch.tensor(() if transition is None else transition.accuracies)
        fresh = () if witnesses is None else witnesses.accuracies
        losses = module.course.losses
        summary: dict[str, object] = {
            "images_per_class": module.ipc,
            "class_names": list(module.data.class_names),
            "image_shape": list(module.data.image_shape),
            "learning_rate": subset.rate,
            "loss": losses[-1] if losses else None,
            "course": module.course.summary(module.iterations),
            "pixels_outside": round(outside(module.data.preprocessing.invert(subset.data.images)), 6),
            "validation_accuracies": [round(a, 6) for a in accuracies.tolist()],
            "fresh_accuracies": [round(a, 6) for a in fresh],
            **module.keeping.summary(),
            "made": made_with(module.context.device),
            "real_examples": None if module.saving is None else module.saving.to_json(),
        }
        previous = module.verify_finished(module.data.fingerprint)
        folder.finish(module.settings(), module.data.fingerprint, previous, summary)
        if len(accuracies):
            rate = {"alpha": subset.rate}
            values = {
                "validation accuracy/mean": accuracies.mean().item(),
                "validation accuracy/std": accuracies.std(correction=0).item(),
            }
            if fresh:
                values["validation accuracy/fresh"] = fmean(fresh)
            scalars(self.loggers, values, module.stage)
            # The trainer's own loggers have alpha by optimiser steps, for which the number of a stage would pass.
            scalars([logger for logger in self.loggers if logger not in trainer.loggers], rate, module.stage)
            finish(self.loggers)

    def _draw(self, module: StageModule, subsets: list[Subset]) -> None:
        images, labels = (torch.cat([getattr(s.data, name) for s in subsets]) for name in ("images", "labels"))
        stages = torch.cat([torch.full_like(s.data.labels, s.stage) for s in subsets])
        pixels = module.data.preprocessing.invert(images)
        above = header(module.options)
        draw_pictures(module.folder.pictures, pixels, labels, stages, module.data.class_names, above)
