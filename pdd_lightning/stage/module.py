"""A stage of progressive distillation as a LightningModule."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.dynamics import Dynamics, Ranks, StageContext
from pdd_lightning.errors import ArtifactError, ConfigError, DivergenceError
from pdd_lightning.networks import Architecture, build_template
from pdd_lightning.objectives import Objective, SyntheticSide, Work
from pdd_lightning.process.launch import Steps, first_process_first
from pdd_lightning.selection import SelectionContext
from pdd_lightning.selection.discard import EasyDiscard, Saving
from pdd_lightning.stage.context import stage_context, start_states
from pdd_lightning.stage.initial_images import Initial, initial_images, pixel_bounds, real_images_needed
from pdd_lightning.stage.options import (
    OptimizerName,
    at_least_one,
    check_decay,
    image_rate,
    per_stage,
    positive,
    require_logits,
    require_recordable,
    require_scalar,
    require_target,
    stage_optimizer,
)
from pdd_lightning.stage.subsets import Subset, read_subset, union_of, write_last_good
from pdd_lightning.store.folders import RunFolder, origin, verify_checkpoint, verify_finished
from pdd_lightning.training.augmentation import Augmentation, NoAugmentation
from pdd_lightning.training.formation import check_factor
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import Json, LabelledImages, State


class StageModule(LightningModule):
    """Learns the subset S_k: its images and its learning rate are the only parameters.

    Args:
        network: The network whose training is matched.
        objective: What is compared.
        dynamics: At which model states.
        stages: Number of stages P.
        ipc: Images per class of every stage, or one number for each stage.
        iterations: Optimiser steps of a stage.
        initial: Initialise the images from real ones, from Gaussian noise, or "mixed", which puts a reduced real image
            into every tile (IDC).
        factor: Of multi-formation (IDC): each stored image holds factor x factor training images. With 1, images are
            stored as they are trained on.
        clamp_pixels: Keep pixels within [0, 1] after every step (IDC).
        image_lr: Learning rate of the images.
        image_lr_decay_at: Fractions of the iterations after which it is multiplied by `image_lr_decay`.
        image_lr_decay: Factor at each point of `image_lr_decay_at`.
        learning_rate: Initial value of the learned learning rate alpha.
        learning_rate_lr: Learning rate of alpha; 0 keeps alpha as it is.
        optimizer: SGD with momentum 0.5 as published for trajectory matching, or Adam, which needs far fewer
            iterations where the scale of the gradients changes from stage to stage.
        points: Match points averaged in every step.
        networks_at_once: Experts and members of a transition that are trained at once. Null takes four on a GPU, where
            their steps are recorded side by side, and one elsewhere, where they would only take turns.
        compile_networks: Let PyTorch compile the steps of experts, transition and evaluation: on a GPU, for networks
            that are made of PyTorch's and this package's modules, and where they are so many that it pays, for it takes
            about 20 seconds for each size of a minibatch. Numbers change as rounding does.
        augmentation: The method's augmentation, used wherever networks train on the images.
        recipe: How networks are trained on the cumulative union, in the transition and at evaluation.
        conditioning: Match with the earlier subsets beside the one that is learned. False is the paper's ablation.
        transition: Begin where training on the earlier subsets ended. False, the paper's ablation, begins every stage
            at fresh networks.
        discard: Give each stage only those real examples that training forgets so and so often; null gives it all.
        seed: Of everything random in the run.
        run_dir: The run's folder.
        stage: Number of the stage; null takes the first that is not complete.
        experts_dir: Folder of the expert trajectories; null keeps them in the run. Several runs may share one.

    Raises:
        ConfigError: If options are out of range or do not fit each other.
    """

    def __init__(
        self,
        network: Architecture,
        objective: Objective,
        dynamics: Dynamics,
        stages: int = 5,
        ipc: int | list[int] = 10,
        iterations: int = 5000,
        initial: Initial = "real",
        factor: int = 1,
        clamp_pixels: bool = False,
        image_lr: float = 1000.0,
        image_lr_decay_at: list[float] = [],  # noqa: B006 (not changed)
        image_lr_decay: float = 0.5,
        learning_rate: float = 0.01,
        learning_rate_lr: float = 1e-5,
        optimizer: OptimizerName = "sgd",
        points: int = 1,
        networks_at_once: int | None = None,
        compile_networks: bool = False,
        augmentation: Augmentation = NoAugmentation(),  # noqa: B008 (immutable)
        recipe: Recipe = Recipe(),  # noqa: B008 (immutable)
        conditioning: bool = True,
        transition: bool = True,
        discard: EasyDiscard | None = None,
        seed: int = 0,
        run_dir: str = "checkpoints/run",
        stage: int | None = None,
        experts_dir: str | None = None,
    ) -> None:
        super().__init__()
        self.per_stage = per_stage(ipc, stages)
        at_least_one(
            iterations=iterations,
            points=points,
            factor=factor,
            networks_at_once=1 if networks_at_once is None else networks_at_once,
        )
        positive(image_lr=image_lr, image_lr_decay=image_lr_decay, learning_rate=learning_rate)
        check_decay(image_lr_decay_at)
        if not 0 <= learning_rate_lr < float("inf"):
            raise ConfigError(f"model.learning_rate_lr must be at least 0 and finite, got {learning_rate_lr}")
        if not run_dir.strip():
            raise ConfigError(f"--run_dir={run_dir!r}: name a folder, such as checkpoints/mine")
        require_target(objective, dynamics)
        if discard is not None:
            discard.check(stages)
        self.run = RunFolder(Path(run_dir))
        self.stages = stages
        # Past the last stage there is nothing to fit; the last stage then stands for the whole run.
        self.stage = min(self.run.completed(stages) + 1, stages) if stage is None else stage
        if not 1 <= self.stage <= stages:
            raise ConfigError(f"--stage={stage}: this run has stages 1 to {stages} (model.stages)")
        self.folder = self.run.stage(self.stage)
        self.experts_dir = Path(experts_dir) if experts_dir else self.run.experts
        self.architecture, self.objective, self.dynamics = network, objective, dynamics
        self.ipc = self.per_stage[self.stage - 1]
        self.iterations, self.initial, self.points, self.seed = iterations, initial, points, seed
        self.image_lr, self.learning_rate_lr, self.optimizer_name = image_lr, learning_rate_lr, optimizer
        self.image_lr_decay_at, self.image_lr_decay = image_lr_decay_at, image_lr_decay
        self.factor, self.clamp_pixels = factor, clamp_pixels
        self.networks_at_once, self.compile_networks = networks_at_once, compile_networks
        self.augmentation, self.recipe = augmentation, recipe
        self.conditioning, self.transition, self.discard = conditioning, transition, discard
        self.initial_rate = learning_rate
        self.alpha = nn.Parameter(torch.tensor(float(learning_rate)))
        self.images: nn.Parameter
        self.labels: Tensor
        self.positions: Tensor | None = None
        self.saving: Saving | None = None
        self.previous: list[Subset] = []
        self._conditioning: LabelledImages | None = None
        self._context: StageContext | None = None
        self._resumed: State | None = None
        self._good: tuple[Tensor, float, int] | None = None
        self._bounds: tuple[Tensor, Tensor] | None = None

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
        return {
            "network": self.architecture.describe(),
            "objective": self.objective.describe(),
            "dynamics": self.dynamics.describe(),
            "augmentation": self.augmentation.describe(),
            "recipe": self.recipe.describe(),
            "conditioning": self.conditioning,
            "transition": self.transition,
            "discard": None if self.discard is None else self.discard.describe(),
            "ipc": self.ipc,
            "iterations": self.iterations,
            "initial": self.initial,
            "factor": self.factor,
            "clamp_pixels": self.clamp_pixels,
            "image_lr": self.image_lr,
            "image_lr_decay_at": list(self.image_lr_decay_at),
            "image_lr_decay": self.image_lr_decay,
            "learning_rate": self.initial_rate,
            "learning_rate_lr": self.learning_rate_lr,
            "optimizer": self.optimizer_name,
            "points": self.points,
            "seed": self.seed,
        }

    def verify_finished(self, data: str) -> None:
        """Check every finished stage up to this one against the present settings and data.

        Raises:
            ArtifactError: If something changed, or if an earlier stage is not complete.
        """
        verify_finished(self.run, self.stage, lambda k: {**self.settings(), "ipc": self.per_stage[k - 1]}, data)

    def check(self, data: ImageDataModule) -> None:
        """Refuse parts that cannot be recorded or do not suit the data, before anything is written.

        Raises:
            ConfigError: Naming the option.
        """
        require_recordable(self.settings())
        network = build_template(self.architecture, data.image_shape, data.num_classes)
        self.objective.check(network)
        require_logits(network, data.image_shape, data.num_classes)
        check_factor(self.factor, *data.image_shape[1:])
        if self.clamp_pixels:
            pixel_bounds(data.preprocessing)
        self._initial_images(data, data.train, max(self.per_stage))

    def _initial_images(self, data: ImageDataModule, real: LabelledImages, ipc: int) -> tuple[Tensor, Tensor]:
        return initial_images(real, data.class_names, ipc, self.factor, self.initial, self.seed, self.stage)

    def setup(self, stage: str) -> None:
        """Read the earlier subsets and place the images of this one, before Lightning restores a checkpoint.

        Raises:
            ArtifactError: If the stage is complete already, or what it builds on is missing or changed.
            ConfigError: If the part of the real data that `discard` leaves lacks a class.
        """
        self.verify_finished(self.data.fingerprint)
        if self.folder.complete:
            raise ArtifactError(f"stage {self.stage} is complete in {self.run.directory}: there is nothing to fit")
        data, real = self.data, self.data.train
        self.previous = [read_subset(self.run.stage(k)) for k in range(1, self.stage)]
        if self.discard is not None:
            context = self.selection_context(data, self.trainer.strategy.root_device)
            needed = max(real_images_needed(ipc, self.factor, self.initial) for ipc in self.per_stage)
            with first_process_first(self.trainer.strategy):
                self.positions = self.discard.positions(context, self.stages, needed)[self.stage - 1]
            real = real.take(self.positions)
        images, labels = self._initial_images(data, real, self.ipc)
        self.images = nn.Parameter(images)
        self.register_buffer("labels", labels, persistent=False)

    def selection_context(self, data: ImageDataModule, device: torch.device) -> SelectionContext:
        """What selecting real images works with in this run.

        Args:
            data: The run's data, set up.
            device: Where to compute.
        """
        return SelectionContext(
            real=data.train_on(device),
            class_names=data.class_names,
            data=data.fingerprint,
            architecture=self.architecture,
            augmentation=self.augmentation,
            seed=self.seed,
            device=device,
            folder=self.run.directory,
        )

    def on_fit_start(self) -> None:
        """Gather start states and real data on the device, and let the dynamics prepare."""
        # Without transition every stage begins as the first one does.
        begins_at = self.stage if self.transition else 1
        bank = start_states(self.run, begins_at, self.architecture, self.data, self.dynamics.members, self.seed)
        self._context = stage_context(
            self.stage,
            bank,
            self.data,
            self.device,
            architecture=self.architecture,
            augmentation=self.augmentation,
            seed=self.seed,
            experts=self.experts_dir,
            ranks=Ranks(self.global_rank, self.trainer.world_size, self.trainer.strategy.barrier),
            at_once=self.networks_at_once,
            compile=self.compile_networks,
            positions=self.positions,
        )
        union = union_of(self.previous) if self.conditioning else None
        self._conditioning = None if union is None else union.to(self.device)
        if self.clamp_pixels:
            low, high = pixel_bounds(self.data.preprocessing)
            self._bounds = low.to(self.device), high.to(self.device)
        began = time.perf_counter()
        self.dynamics.prepare(self._context)
        self.saving = Saving(len(self.context.real), len(self.data.train), time.perf_counter() - began)
        if self._resumed is not None:
            self.dynamics.load_state_dict(self._resumed)

    def train_dataloader(self) -> DataLoader[int]:
        """The numbers of the steps: everything random in a step is derived from its number."""
        return Steps(self.iterations).loader()

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        """The mean loss over the step's match points, of which this rank takes its share."""
        synthetic = SyntheticSide(self.images, self.labels, self.alpha, self._conditioning, self.factor)
        step, ranks = self.global_step, self.context.ranks
        points = [self.dynamics.point(step, index) for index in range(self.points)]
        parts = self.objective.parts(self.context)
        # Lightning averages gradients over ranks; ranks without a part contribute a loss of zero.
        total = 0.0 * (self.images.sum() + self.alpha)
        mine = [divmod(work, parts) for work in ranks.share(self.points * parts)]
        works = [Work(points[index], index, part) for index, part in mine]
        for part_loss in self.objective.losses(synthetic, works, self.context, step):
            require_scalar(part_loss, self.objective)
            total = total + part_loss
        loss = total * ranks.world / self.points
        # Every rank must come to the same verdict, or the others would wait for one that stopped.
        seen = self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="sum") if ranks.world > 1 else loss
        if not torch.isfinite(seen):
            raise self._divergence(f"the matching loss became {loss.item()}")
        self._good = (self.images.detach().clone(), self.alpha.item(), step)
        self.log("loss", loss, prog_bar=True, sync_dist=ranks.world > 1)
        self.log("alpha", self.alpha.detach(), prog_bar=True)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """End the fit with the last iteration, whatever the trainer's own limits are."""
        if self.global_step >= self.iterations:
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        """Let go of what a GPU has recorded: the transition needs its memory."""
        self.objective.release()
        self.context.recordings.clear()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and refuse a state in which the learning rate means nothing before anything stores it."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        # From the step's number, not by a scheduler: a stage that continues needs no state for it.
        optimizer.param_groups[0]["lr"] = image_rate(
            self.image_lr, self.image_lr_decay_at, self.image_lr_decay, self.global_step, self.iterations
        )
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
        side = SyntheticSide(self.images.detach(), self.labels, self.alpha, self._conditioning, self.factor)
        union = LabelledImages(side.union(side.decoded), side.all_labels)
        self.dynamics.advance(self.global_step, union, alpha)

    def _divergence(self, what: str) -> DivergenceError:
        state = "no step had a finite loss"
        if self._good is not None:
            images, rate, step = self._good
            if self.global_rank == 0:
                write_last_good(self.folder, images, self.labels, rate, step)
            state = f"the last good state, of step {step}, is in {self.folder.last_good}"
        return DivergenceError(
            f"stage {self.stage} stopped at step {self.global_step}: {what}; {state}. Lower model.learning_rate_lr "
            f"(now {self.learning_rate_lr:g}) or model.image_lr (now {self.image_lr:g}), delete "
            f"{self.folder.checkpoints} if it exists, and run again"
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One optimiser, two groups: the images and alpha."""
        return stage_optimizer(self.optimizer_name, self.images, self.alpha, self.image_lr, self.learning_rate_lr)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember what the checkpoint was made of."""
        checkpoint["pdd_stage"] = {"settings": self.settings(), **origin(self.run, self.stage, self.data.fingerprint)}
        checkpoint["pdd_dynamics"] = self.dynamics.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to continue from a checkpoint of other settings: config.yaml must not lie."""
        self.verify_checkpoint(checkpoint, self.data.fingerprint)
        self._resumed = checkpoint["pdd_dynamics"]

    def verify_checkpoint(self, checkpoint: dict[str, Any], data: str) -> None:
        """Compare what a checkpoint was made of with the present settings and data.

        Raises:
            ArtifactError: Naming what differs.
        """
        verify_checkpoint(self.run, self.stage, self.settings(), data, checkpoint.get("pdd_stage", {}))

    @torch.no_grad()
    def subset(self) -> Subset:
        """S_k as it is now, on the CPU."""
        images = LabelledImages(self.images.detach().cpu().clone(), self.labels.cpu())
        return Subset(images, self.alpha.item(), self.stage, self.factor)
