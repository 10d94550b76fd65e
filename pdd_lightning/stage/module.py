"""A stage of progressive distillation as a LightningModule."""

import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from statistics import fmean, pstdev
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.dynamics import Ranks, StageContext
from pdd_lightning.errors import ArtifactError, ConfigError, DivergenceError
from pdd_lightning.objectives import SyntheticSide, Work
from pdd_lightning.process.launch import first_process_first
from pdd_lightning.process.signals import Interrupted
from pdd_lightning.selection.discard import Saving
from pdd_lightning.stage.checks import require_held_out, require_logits, require_recordable, require_scalar
from pdd_lightning.stage.context import selection_context, stage_context, start_states
from pdd_lightning.stage.course import Course
from pdd_lightning.stage.initial_images import initial_images, pixel_bounds, real_images_needed
from pdd_lightning.stage.keeping import Keeping
from pdd_lightning.stage.logs import scalars
from pdd_lightning.stage.one_stage import title
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.stage.renewal import renewed_states
from pdd_lightning.stage.subsets import Subset, read_subset, union_of, write_last_good
from pdd_lightning.stage.witnesses import score_witnesses, witness_start
from pdd_lightning.store.verification import stage_origin, verify_checkpoint, verify_finished
from pdd_lightning.training.formation import check_factor
from pdd_lightning.training.steps import Steps
from pdd_lightning.types import Json, LabelledImages, State


class StageModule(LightningModule):
    """Learns the subset S_k: its images and its learning rate are the only parameters.

    Args:
        **options: See :class:`pdd_lightning.stage.options.StageOptions`.

    Raises:
        ConfigError: If options are out of range or do not fit each other.

    Example:
        >>> from pdd_lightning.dynamics import StartStates
        >>> from pdd_lightning.networks import ConvNet
        >>> from pdd_lightning.objectives import MeanEmbedding
        >>> module = StageModule(
        ...     network=ConvNet(width=8), objective=MeanEmbedding(), dynamics=StartStates(5), ipc=1, run_dir="new"
        ... )
        >>> module.stage, module.options.stages
        (1, 5)
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = StageOptions(**options)
        self.run = self.options.run
        # Past the last stage there is nothing to fit; the last stage then stands for the whole run.
        finished = self.run.completed(self.options.stages)
        self.stage: int = self.options.stage or min(finished + 1, self.options.stages)
        self.folder = self.run.stage(self.stage)
        self.ipc = self.options.per_stage[self.stage - 1]
        self.alpha = nn.Parameter(torch.tensor(float(self.options.learning_rate)))
        self.images: nn.Parameter
        self.labels: Tensor
        self.positions: Tensor | None = None
        self.saving: Saving | None = None
        self.previous: list[Subset] = []
        self._verified: tuple[str, str | None] | None = None
        self._conditioning: LabelledImages | None = None
        self._context: StageContext | None = None
        self._resumed: State | None = None
        self._done = 0
        self.course = Course()
        self.keeping = Keeping(self.options.keep, self.iterations, self.options.watch_every)
        self._watching: StageContext | None = None
        self._good: tuple[Tensor, float, int] | None = None
        self._bounds: tuple[Tensor, Tensor] | None = None

    @property
    def title(self) -> str:
        """What the stage is called; see :func:`pdd_lightning.stage.one_stage.title`."""
        return title(self.options, self.stage)

    @property
    def iterations(self) -> int:
        """Optimiser steps of the stage."""
        return self.options.steps_per_stage[self.stage - 1]

    @property
    def image_lr(self) -> float:
        """Learning rate of the stage's images, before it decays."""
        return self.options.rates_per_stage[self.stage - 1]

    @property
    def data(self) -> ImageDataModule:
        """The data module that the trainer was given.

        Raises:
            ConfigError: If it is not one of ours.
        """
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, ImageDataModule):
            raise ConfigError(f"the trainer's datamodule must be an ImageDataModule, got {type(data).__name__}")
        return data

    @property
    def context(self) -> StageContext:
        """What the dynamics, the objective and the transition work with; exists from `on_fit_start`."""
        assert self._context is not None, "the context is made in on_fit_start"
        return self._context

    def settings(self) -> Json:
        """Everything that the stage's result depends on, apart from the data and the earlier stages."""
        return self.options.settings(self.stage)

    def verify_finished(self, data: str) -> str | None:
        """Check every finished stage up to this one against the present settings and data, once for each data.

        Args:
            data: Fingerprint of the data.

        Returns:
            Fingerprint of the stage before, as it was checked; None at stage 1.

        Raises:
            ArtifactError: If something changed, or if an earlier stage is not complete.
        """
        if self._verified is None or self._verified[0] != data:
            self._verified = data, verify_finished(self.run, self.stage, self.options.settings, data)
        return self._verified[1]

    def check(self, data: ImageDataModule) -> None:
        """Refuse parts that cannot be recorded or do not suit the data, before anything is written.

        Raises:
            ConfigError: Naming the option.
        """
        options = self.options
        require_recordable(self.settings())
        network = options.problem(data).network()
        options.objective.check(network)
        require_logits(network, data.image_shape, data.num_classes)
        require_held_out(options.keep, options.watch_every, len(data.validation))
        check_factor(options.factor, *data.image_shape[1:])
        if options.clamp_pixels:
            pixel_bounds(data.preprocessing)
        initial_images(options, self.stage, data.train, data.class_names, max(options.per_stage))

    def setup(self, stage: str) -> None:
        """Read the earlier subsets and place the images of this one, before Lightning restores a checkpoint.

        Raises:
            ArtifactError: If the stage is complete already, or what it builds on is missing or changed.
            ConfigError: If the part of the real data that `discard` leaves lacks a class.
        """
        self.verify_finished(self.data.fingerprint)
        if self.folder.complete:
            raise ArtifactError(f"{self.title} is complete in {self.run.directory}: there is nothing to fit")
        data, real = self.data, self.data.train
        self.previous = [read_subset(self.run.stage(k)) for k in range(1, self.stage)]
        options = self.options
        if options.discard is not None:
            context = selection_context(options, data, self.trainer.strategy.root_device)
            needed = real_images_needed(options, max(options.per_stage))
            with first_process_first(self.trainer.strategy):
                self.positions = options.discard.positions(context, options.stages, needed)[self.stage - 1]
            real = real.take(self.positions)
        images, labels = initial_images(options, self.stage, real, data.class_names, self.ipc)
        self.images = nn.Parameter(images)
        self.register_buffer("labels", labels, persistent=False)

    def on_fit_start(self) -> None:
        """Gather start states and real data on the device, and let the dynamics prepare."""
        options, data = self.options, self.data
        bank = start_states(options, self.stage, options.problem(data))
        ranks = Ranks(self.global_rank, self.trainer.world_size, self.trainer.strategy.barrier)
        context = stage_context(options, self.stage, bank, data, self.device, ranks, self.positions, self._done)
        self._context = replace(context, renewed_bank=partial(renewed_states, options, context, self.previous))
        union = union_of(self.previous) if options.conditioning else None
        self._conditioning = None if union is None else union.to(self.device)
        if options.clamp_pixels:
            low, high = pixel_bounds(data.preprocessing)
            self._bounds = low.to(self.device), high.to(self.device)
        began = time.perf_counter()
        options.dynamics.prepare(self._context)
        self.saving = Saving(len(self.context.real), len(data.train), time.perf_counter() - began)
        if options.watch_every:  # not when the first is due: within the steps no signal is raised
            start = witness_start(options, self._context, self.previous)
            self._watching = replace(self._context, bank=start)
        if self._resumed is not None:
            options.dynamics.load_state_dict(self._resumed)

    def train_dataloader(self) -> DataLoader[int]:
        """The numbers of the steps: everything random in a step is derived from its number."""
        return Steps(self.iterations).loader()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Do what an interruption left of what is due between two steps."""
        self._watch(self.global_step)
        self.options.dynamics.renew(self.global_step)

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        """The mean loss over the step's match points, of which this rank takes its share."""
        options, step, ranks = self.options, self.global_step, self.context.ranks
        points = [options.dynamics.point(step, index) for index in range(options.points)]
        parts = options.objective.parts(self.context)
        # Lightning averages gradients over ranks; ranks without a part contribute a loss of zero.
        total = 0.0 * (self.images.sum() + self.alpha)
        mine = [divmod(number, parts) for number in ranks.share(options.points * parts)]
        works = [Work(points[index], step, index, part) for index, part in mine]
        for part_loss in options.objective.losses(self._side(self.images), works, self.context):
            require_scalar(part_loss, options.objective)
            total = total + part_loss
        loss = total * ranks.world / options.points
        # Every rank must come to the same verdict, or the others would wait for one that stopped.
        seen = self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="sum") if ranks.world > 1 else loss
        if not torch.isfinite(seen):
            raise self._divergence(f"the matching loss became {loss.item()}")
        self._good = (self.images.detach().clone(), self.alpha.item(), step)
        self.course.add(seen.item() / ranks.world, self.alpha.item())
        # For callbacks and bars. Loggers are told below: Lightning would add the number of the epoch, always 0.
        self.log("loss", self.course.losses[-1], prog_bar=True, logger=False)
        self.log("alpha", self.course.alphas[-1], prog_bar=True, logger=False)
        return loss

    def _side(self, images: Tensor) -> SyntheticSide:
        """What is learned, and what it is conditioned on."""
        return SyntheticSide(images, self.labels, self.alpha, self._conditioning, self.options.factor)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """End the fit with the last iteration, whatever the trainer's own limits are, and log now and then."""
        trainer, done = self.trainer, self.global_step
        if done >= self.iterations:
            trainer.should_stop = True
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if trainer.should_stop or done == trainer.max_steps or (every and done % every == 0):
            scalars(trainer.loggers, {"loss": self.course.losses[-1], "alpha": self.course.alphas[-1]}, done - 1)

    def on_train_end(self) -> None:
        """Let go of what a GPU has recorded: the transition needs its memory."""
        self.options.objective.release()
        self.context.recordings.clear()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and refuse a state in which the learning rate means nothing before anything stores it."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        # From the step's number, not by a scheduler: a stage that continues needs no state for it.
        optimizer.param_groups[0]["lr"] = self.options.image_rate(self.stage, self.global_step)
        super().optimizer_step(*args, **kwargs)
        alpha = self.alpha.item()
        if not 0 < alpha < float("inf"):
            raise self._divergence(f"the learned learning rate alpha became {alpha}")
        if not torch.isfinite(self.images).all():
            raise self._divergence("the images are no longer finite")
        if self._bounds is not None:
            with torch.no_grad():
                self.images.clamp_(*self._bounds)
        # Here and not in a hook after the step: a checkpoint of this step must hold where the dynamics is.
        side = self._side(self.images.detach())
        union = LabelledImages(side.union(side.decoded), side.all_labels)
        self.options.dynamics.advance(self.global_step, union, alpha)
        done = self.global_step + 1
        self.keeping.stepped(done, self.images, self.alpha)
        with suppress(Interrupted):  # the checkpoint that the signal asks for then says that it is due
            self._watch(done)
            if done < self.iterations:
                self.options.dynamics.renew(done)

    def _watch(self, done: int) -> None:
        """Score fresh networks on the union after so many steps, where it is time and was not done."""
        if self._watching is None or not self.keeping.due(done):
            return
        subset, strategy, alone = self.subset(), self.trainer.strategy, self._watching.ranks.world == 1

        def sums(found: Tensor) -> Tensor:
            return found if alone else strategy.reduce(found.to(strategy.root_device), reduce_op="sum")

        accuracies = score_witnesses(self.options, self._watching, [*self.previous, subset], sums)
        self.keeping.scored(done, accuracies, subset.data.images, torch.tensor(subset.rate))
        values = {"watched accuracy/mean": fmean(accuracies), "watched accuracy/std": pstdev(accuracies)}
        scalars(self.trainer.loggers, values, done)

    def _divergence(self, what: str) -> DivergenceError:
        state = "no step had a finite loss"
        if self._good is not None:
            images, rate, step = self._good
            if self.global_rank == 0:
                write_last_good(self.folder, images, self.labels, rate, step)
            state = f"the last good state, of step {step}, is in {self.folder.last_good}"
        return DivergenceError(
            f"{self.title} stopped at step {self.global_step}: {what}; {state}. Lower model.learning_rate_lr "
            f"(now {self.options.learning_rate_lr:g}) or model.image_lr (now {self.image_lr:g}), delete "
            f"{self.folder.checkpoints} if it exists, and run again"
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One optimiser, two groups: the images and alpha."""
        return self.options.make_optimizer(self.images, self.alpha, self.stage)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember what the checkpoint was made of."""
        checkpoint["pdd_stage"] = {"settings": self.settings(), **self._origin(self.data.fingerprint)}
        checkpoint["pdd_dynamics"] = self.options.dynamics.state_dict()
        checkpoint["pdd_course"] = self.course.state()
        if self.options.watch_every or self.options.keep != "last":
            checkpoint["pdd_keeping"] = self.keeping.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to continue from a checkpoint of other settings: config.yaml must not lie."""
        self.verify_checkpoint(checkpoint, self.data.fingerprint)
        self._resumed, self._done = checkpoint["pdd_dynamics"], checkpoint["global_step"]
        if "pdd_course" in checkpoint:  # which no number depends on
            self.course.load(checkpoint["pdd_course"])
        if "pdd_keeping" in checkpoint:
            self.keeping.load(checkpoint["pdd_keeping"])

    def verify_checkpoint(self, checkpoint: dict[str, Any], data: str) -> None:
        """Compare what a checkpoint was made of with the present settings and data.

        Raises:
            ArtifactError: Naming what differs.
        """
        verify_checkpoint(self.folder, self.settings(), self._origin(data), checkpoint.get("pdd_stage", {}))

    def _origin(self, data: str) -> Json:
        return stage_origin(self.stage, data, self.verify_finished(data))

    @torch.no_grad()
    def subset(self) -> Subset:
        """S_k as it is now, on the CPU."""
        images = LabelledImages(self.images.detach().cpu().clone(), self.labels.cpu())
        return Subset(images, self.alpha.item(), self.stage, self.options.factor)

    def kept(self) -> Subset:
        """S_k as the stage ends with it, on the CPU, when all steps are done."""
        self._watch(self.global_step)
        last, images, alpha = self.subset(), self.keeping.images, self.keeping.alpha
        if images is None or alpha is None:
            return last
        return replace(last, data=LabelledImages(images.cpu(), last.data.labels), rate=alpha.item())
