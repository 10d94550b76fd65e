"""Training fresh networks on finished sets, and scoring them, as a LightningModule."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Self, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from pdd_lightning.compute.attached import attach, with_gradients
from pdd_lightning.compute.functional import Layout
from pdd_lightning.networks.batch_norm import synchronised
from pdd_lightning.rng import generator
from pdd_lightning.training.cutmix import Mix, mixed_cross_entropy
from pdd_lightning.training.gradients import LossGradients, Recordings, is_function, is_recordable
from pdd_lightning.training.learner import SCORED_AT_ONCE
from pdd_lightning.training.problem import Problem
from pdd_lightning.training.recipe import Batches, Recipe, autocast, minibatch
from pdd_lightning.training.steps import Steps
from pdd_lightning.types import LabelledImages


@dataclass(frozen=True)
class Phase:
    """One part of a training, after which the networks are scored.

    Attributes:
        data: What each network trains on, one entry for each network.
        rates: Initial learning rate of each network.
        recipe: How they train. Momentum starts anew in every phase.
        compile: Whether PyTorch compiles their steps.

    Example:
        >>> images = LabelledImages(torch.zeros(10, 1, 8, 8), torch.arange(10))
        >>> Phase([images] * 3, rates=[0.1] * 3, recipe=Recipe(epochs=20, batch_size=5)).steps
        40
    """

    data: Sequence[LabelledImages]
    rates: Sequence[float]
    recipe: Recipe
    compile: bool = False

    @property
    def steps(self) -> int:
        """Optimiser steps of each network; all of them have sets of one size."""
        return self.recipe.steps(len(self.data[0]))

    def of(self, networks: Sequence[int]) -> Self:
        """The same for some of the networks."""
        return replace(self, data=[self.data[i] for i in networks], rates=[self.rates[i] for i in networks])


class EvaluationModule(LightningModule):
    """Trains several fresh networks side by side, one for each seed, through a list of phases.

    The networks share nothing: their losses are added and every gradient reaches its own network only, which is
    the same as training them one after the other. Over several devices each minibatch is split, and batch norms take
    their statistics over all of it; or else, spread, each network has a device that computes its gradients alone.

    Progressive training on U_1, U_2, ... (PDD section 4.1) is one phase for each union.

    Args:
        problem: Networks, images, augmentation and seed; every network has an initialisation of its own.
        phases: What to train on, in order.
        score: Images on which accuracy is measured after each phase.
        name: Names this training's random streams.
        members: Numbers of the networks, which decide initialisation, minibatches and augmentation; 0, 1, ... by
            default. Two networks of one number differ in nothing but their rates.
        spread: Give each network to one of several devices, instead of splitting every minibatch over all of them.
        recordings: What was compiled of networks of this kind before; None for nothing.

    Example:
        >>> from pdd_lightning.networks import ConvNet
        >>> images = LabelledImages(torch.zeros(10, 1, 8, 8), torch.arange(10))
        >>> phase = Phase([images] * 3, rates=[0.1] * 3, recipe=Recipe(epochs=20))
        >>> problem = Problem(ConvNet(width=4), (1, 8, 8), num_classes=10)
        >>> module = EvaluationModule(problem, [phase, phase], score=images, name="mine")
        >>> len(module.networks), module.total_steps
        (3, 40)
    """

    def __init__(
        self,
        problem: Problem,
        phases: Sequence[Phase],
        score: LabelledImages,
        name: str,
        members: Sequence[int] | None = None,
        spread: bool = False,
        recordings: Recordings | None = None,
    ) -> None:
        super().__init__()
        self.problem, self.name, self.spread = problem, name, spread
        self.phases, self.score_images = list(phases), score
        count = len(self.phases[0].data)
        self.networks = nn.ModuleList(problem.network() for _ in range(count))
        self.members = list(range(count)) if members is None else list(members)
        for member, network in zip(self.members, self.networks, strict=True):
            # Not keyed by name: every set is tried on the same initialisations.
            network.load_state_dict(problem.initial_state("fresh", member))
        self.metrics = nn.ModuleList(MulticlassAccuracy(problem.num_classes, average="micro") for _ in range(count))
        self._recordings: Recordings = {} if recordings is None else recordings
        self._shared = recordings is not None
        self._gradients: LossGradients | None = None
        self._ends = list(accumulate(phase.steps for phase in self.phases))
        self._batches: list[Batches] = []
        self._phase = -1
        self.accuracies: list[list[float]] = []

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self._ends[-1]

    def setup(self, stage: str) -> None:
        """Let batch norms see whole minibatches, where each process has a part."""
        if self.trainer.world_size > 1 and not self.spread:
            device = self.trainer.strategy.root_device
            self.networks = nn.ModuleList(synchronised(network, device) for network in self.networks)

    def on_fit_start(self) -> None:
        """Bring the images to the device once, for as long as the training lasts."""
        self._given = self.phases, self.score_images
        unique: dict[int, LabelledImages] = {}
        for phase in self.phases:
            for data in phase.data:
                unique.setdefault(id(data), data.to(self.device))
        self.phases = [replace(p, data=[unique[id(d)] for d in p.data]) for p in self.phases]
        self.score_images = self.score_images.to(self.device)

    def train_dataloader(self) -> DataLoader[int]:
        """The numbers of the steps."""
        return Steps(self.total_steps).loader()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with one group for each network; `training_step` sets the rates."""
        recipe = self.phases[0].recipe
        groups = [{"params": list(network.parameters())} for network in self.networks]
        return torch.optim.SGD(groups, lr=1.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay)

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        """The sum of the networks' losses on their own minibatches."""
        step = self.global_step
        number = bisect_right(self._ends, step)
        phase, local = self.phases[number], step - (self._ends[number - 1] if number else 0)
        if number != self._phase:
            self._enter(number)
        epoch = local // self._batches[0].per_epoch
        for group, rate in zip(self._optimizer.param_groups, phase.rates, strict=True):
            group["lr"] = phase.recipe.rate(rate, epoch)
        if self._gradients is not None:
            return self._losses_recorded(self._gradients, phase, number, local).sum()
        losses = [
            # Differentiated at once: the networks' activations are never held together.
            attach(self._loss(index, phase.data[index], number, local), *network.parameters())
            for index, network in enumerate(self.networks)
        ]
        return torch.stack(losses).sum()

    def _losses_recorded(self, gradients: LossGradients, phase: Phase, number: int, local: int) -> Tensor:
        """Every network's mean loss, shape (networks,)."""
        shown = [self._minibatch(index, data, number, local) for index, data in enumerate(phase.data)]
        layout, named = Layout.of(self.networks[0]), [dict(network.named_parameters()) for network in self.networks]
        with torch.no_grad():
            found = gradients([(layout.flatten(own), *seen) for own, seen in zip(named, shown, strict=True)])
        losses = [
            with_gradients(loss, [(own[name], part) for name, part in layout.unflatten(gradient).items()])
            for (loss, gradient), own in zip(found, named, strict=True)
        ]
        return torch.stack(losses)

    @property
    def _optimizer(self) -> torch.optim.Optimizer:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        return optimizer

    def _enter(self, number: int) -> None:
        phase = self.phases[number]
        self._phase = number
        self._batches = [
            phase.recipe.batches(len(data), self.problem.seed, self.name, "phase", number, member)
            for member, data in zip(self.members, phase.data, strict=True)
        ]
        self._optimizer.state.clear()
        for group in self._optimizer.param_groups:
            group["momentum"], group["weight_decay"] = phase.recipe.momentum, phase.recipe.weight_decay
        self._gradients = None
        compiled = phase.compile and self.device.type == "cpu" and is_function(self.networks[0])
        if self.trainer.world_size == 1 and (compiled or is_recordable(self.networks[0], self.device)):
            key = phase.recipe.precision, phase.compile
            if key not in self._recordings:
                self._recordings[key] = LossGradients(self.networks[0], *key)
            self._gradients = self._recordings[key]
            # The short minibatch that ends an epoch too: its recording is no part of what a step takes.
            self._losses_recorded(self._gradients, phase, number, self._batches[0].per_epoch - 1)

    def _loss(self, index: int, data: LabelledImages, number: int, local: int) -> Tensor:
        """One network's mean loss on its minibatch, or this rank's part of it."""
        world = self.trainer.world_size
        if self.spread and index % world != self.global_rank:
            # The parameters take part all the same: gradients are averaged over the processes.
            return 0.0 * torch.stack([parameter.sum() for parameter in self.networks[index].parameters()]).sum()
        images, labels, mix = self._minibatch(index, data, number, local)
        if world == 1 or self.spread:
            return world * mixed_cross_entropy(self._logits(index, images, number), labels, mix)
        # Lightning averages gradients over ranks, so that parts of unequal size add up to the mean of the whole.
        mine = slice(self.global_rank, None, world)
        loss = mixed_cross_entropy(self._logits(index, images[mine], number), labels, mix, mine, "sum")
        return loss * world / len(labels)

    def _minibatch(
        self, index: int, data: LabelledImages, number: int, local: int
    ) -> tuple[Tensor, Tensor, Mix | None]:
        """What a network sees in a step of a phase: see :func:`pdd_lightning.training.recipe.minibatch`."""
        draws = generator(self.problem.seed, self.name, "augment", number, self.members[index], local)
        return minibatch(
            data, self._batches[index], local, self.phases[number].recipe, self.problem.augmentation, draws
        )

    def _logits(self, index: int, images: Tensor, number: int) -> Tensor:
        """A network's answers in float32, computed in the precision of the phase."""
        with autocast(self.phases[number].recipe.precision, self.device):
            logits: Tensor = self.networks[index](images)
        return logits.float()

    def on_train_end(self) -> None:
        """Let go of what was recorded and of the images on the device: the next training needs their memory."""
        self._gradients = None
        if not self._shared:
            self._recordings.clear()
        self.phases, self.score_images = self._given

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Score the networks where a phase ends."""
        if self.global_step in self._ends:
            self.accuracies.append(self.score())

    @torch.no_grad()
    def score(self, batch_size: int = SCORED_AT_ONCE) -> list[float]:
        """Accuracy of every network, over all ranks."""
        if self.spread and self.trainer.world_size > 1:
            for index, network in enumerate(self.networks):
                for buffer in network.buffers():
                    torch.distributed.broadcast(buffer, index % self.trainer.world_size)
        self.networks.eval()
        mine = slice(self.global_rank, None, self.trainer.world_size)
        images, labels = self.score_images.images[mine], self.score_images.labels[mine]
        values = []
        for network, module in zip(self.networks, self.metrics, strict=True):
            metric = cast(MulticlassAccuracy, module)
            for x, y in zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True):
                metric.update(network(x), y)
            values.append(float(metric.compute()))
            metric.reset()
        self.networks.train()
        return values
