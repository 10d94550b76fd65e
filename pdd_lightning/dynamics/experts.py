"""Expert trajectories: networks trained on real data, with a snapshot after every epoch.

Source: Cazenavette et al., CVPR 2022, section 3.1. Inside PDD the experts of stage k begin where training on the
synthetic sets ended (arXiv 2310.06982, section 4.1).
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, get_args

import torch
from safetensors import safe_open
from torch import Tensor

from pdd_lightning.dynamics.base import KEPT_RENEWALS, Dynamics, MatchPoint, Preparation, Rehearsal
from pdd_lightning.dynamics.context import StageContext
from pdd_lightning.dynamics.expert_files import Storage, holds_expert, pack_rows, read_row, rows_read, stored_bytes
from pdd_lightning.dynamics.expert_rounds import Expert, Rounds
from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.process.signals import Interrupted, heed, pending
from pdd_lightning.process.workers import share_out
from pdd_lightning.progress import Progress
from pdd_lightning.rng import generator
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.store.files import write_json, write_tensors
from pdd_lightning.training.augmentation import NoAugmentation
from pdd_lightning.training.learner import Learner, groups, step_together, train_together
from pdd_lightning.training.recipe import Precision, Recipe, minibatch
from pdd_lightning.types import Json

_DECISIVE = ("learning_rate", "batch_size", "momentum", "weight_decay", "storage", "precision")
"""Options that an expert's numbers depend on."""

_REHEARSED = 16
"""Real images of the short experts that a plan trains."""


class ExpertTrajectories(Dynamics):
    """Match along stored trajectories of networks trained on real data.

    Args:
        experts: Number of trajectories that matches choose from.
        start_states: Size of the bank, all of which goes through the transition; null takes as many as there are
            experts. Images come to suit a small bank alone, and more start states cost no more than their transition.
            More of them than `experts` need `renew_every`.
        renew_every: Optimiser steps of a stage after which its experts are trained anew, from the next start states of
            the bank, and after the last one from the first again; null never does. With as many start states as experts
            these begin where those before did, and see the real data in another order. Each start state has its turn in
            a stage of at least renew_every * start_states / experts iterations.
        epochs: Expert epochs M between the start and the target of a match.
        max_start_epoch: Latest epoch at which a match may start, inclusive.
        min_start_epoch: Earliest epoch at which a match may start.
        train_epochs: Epochs each expert is trained for; null trains just as many as are read.
        learning_rate: Of SGD on real data, constant.
        batch_size: Real images per step.
        momentum: Of SGD.
        weight_decay: Of SGD.
        augment: Apply the method's augmentation to the real images.
        storage: How snapshots are kept: "bfloat16" takes half the space, and moves each by at most 0.4 % of the way
            from the snapshot that is kept before it.
        precision: In which the networks are trained; see :class:`pdd_lightning.training.recipe.Recipe`.

    Raises:
        ConfigError: If matches would reach beyond what the experts hold.

    Example:
        >>> experts = ExpertTrajectories(experts=20, epochs=2, min_start_epoch=5, max_start_epoch=6)
        >>> experts.train_epochs, experts.read  # of which snapshots a match can begin or end at these
        (8, [5, 6, 7, 8])
    """

    has_target: ClassVar[bool] = True
    members_option: str | None = "experts"
    unrecorded = ("train_epochs",)  # snapshots beyond those that are read change none of these

    def __init__(
        self,
        experts: int = 100,
        epochs: int = 2,
        max_start_epoch: int = 15,
        min_start_epoch: int = 0,
        train_epochs: int | None = None,
        learning_rate: float = 0.01,
        batch_size: int = 256,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        augment: bool = True,
        storage: Storage = "float32",
        precision: Precision = "float32",
        start_states: int | None = None,
        renew_every: int | None = None,
    ) -> None:
        counts = {"experts": experts, "epochs": epochs, "start_states": start_states, "renew_every": renew_every}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise ConfigError(f"dynamics.{name} must be at least 1, got {value}")
        if start_states is not None:
            self.members_option = None  # which must not become less than the experts
        if not 0 <= min_start_epoch <= max_start_epoch:
            raise ConfigError(
                f"dynamics.min_start_epoch={min_start_epoch} and max_start_epoch={max_start_epoch}: need "
                "0 <= min_start_epoch <= max_start_epoch"
            )
        self.needed = max_start_epoch + epochs
        if train_epochs is not None and train_epochs < self.needed:
            raise ConfigError(
                f"dynamics.max_start_epoch={max_start_epoch} + epochs={epochs} reaches epoch {self.needed}, but "
                f"train_epochs={train_epochs} is all the experts hold: raise train_epochs or lower max_start_epoch"
            )
        if not 0 < learning_rate < math.inf:
            raise ConfigError(f"dynamics.learning_rate must be positive and finite, got {learning_rate}")
        self.experts = experts
        self.epochs = epochs
        self.max_start_epoch = max_start_epoch
        self.min_start_epoch = min_start_epoch
        self.train_epochs = train_epochs or self.needed
        self.learning_rate = learning_rate
        self.augment = augment
        if storage not in get_args(Storage):
            raise ConfigError(f"dynamics.storage={storage!r}: choose from {', '.join(get_args(Storage))}")
        self.storage, self.precision = storage, precision
        self.batch_size, self.momentum, self.weight_decay = batch_size, momentum, weight_decay
        self.start_states, self.renew_every = start_states, renew_every
        self.rounds = Rounds(experts, start_states or experts, renew_every)
        self.read = rows_read(min_start_epoch, max_start_epoch, epochs)
        self.recipe = Recipe(
            epochs=self.train_epochs,
            batch_size=batch_size,
            momentum=momentum,
            weight_decay=weight_decay,
            decay_at=(),
            precision=precision,
        )
        self._files = ExitStack()
        self._readers: list[Any] = []
        self._context: StageContext | None = None
        self._round = 0

    @property
    def members(self) -> int:
        """Number of start states."""
        return self.rounds.start_states

    def prepare(self, context: StageContext) -> None:
        """Train the experts of the next step that are not stored yet, each rank its share, and open all of them."""
        self._context = context
        number = self.rounds.at(min(context.steps.start, context.steps.stop - 1))  # all of them may have been made
        self._make(context, number)
        context.ranks.barrier()
        self._open(context, number)

    def renew(self, step: int) -> None:
        """See :meth:`Dynamics.renew`."""
        context, number = self._prepared, self.rounds.at(step)
        if number == self._round:
            return
        with suppress(Interrupted):  # the other ranks wait for this one
            self._make(context, number)
        context.ranks.barrier()
        settings = self._settings(context)
        if not all(holds_expert(path, settings, self.read) for path in self._files_of(context, number).values()):
            raise Interrupted(pending() or "a signal to another process of this run")
        self._open(context, number)

    def renewals(self, steps: int) -> int:
        """See :meth:`Dynamics.renewals`."""
        return self.rounds.at(steps - 1)

    def _make(self, context: StageContext, number: int) -> None:
        """Train the experts of a round that are not stored yet, of which this rank takes its share."""
        settings, paths = self._settings(context), self._files_of(context, number)
        experts = list(paths)
        if number and context.ranks.rank == 0:
            self._forget(context, number)
        together = groups(
            context.ranks.share(self.experts),
            context.networks_at_once,
            lambda index: holds_expert(paths[experts[index]], settings, self.read, experts[index].name),
        )
        if together:
            what = f"experts, renewal {number}" if number else "experts"
            title = f"{context.title}: {what} ({self.train_epochs} epochs each)"
            with (
                Progress(enabled=context.ranks.rank == 0) as progress,
                progress.task(title, sum(map(len, together))) as task,
            ):

                def train(group: Sequence[int], advance: Callable[[int], object]) -> None:
                    heed()
                    chosen = [experts[index] for index in group]
                    for expert, rows in zip(chosen, self._train(context, chosen), strict=True):
                        signature = {"settings": json.dumps(settings), "epochs": json.dumps(self.read)}
                        signature["member"] = expert.name
                        write_tensors(paths[expert], pack_rows(rows, self.storage), signature)
                    advance(len(group))

                def done(count: int) -> None:
                    if context.ranks.rank == 0 and task.done == 0:
                        # For people; not before there is an expert.
                        write_json(next(iter(paths.values())).parent / "settings.json", settings)
                    task.advance(count)

                context.compile(self.recipe, len(context.real), self.experts)
                share_out(train, together, context.workers, done)

    def _open(self, context: StageContext, number: int) -> None:
        """Have matches read the experts of a round."""
        context.recordings.clear()  # what follows needs their memory
        self.close()
        settings = self._settings(context)
        for path in self._files_of(context, number).values():
            if not holds_expert(path, settings, self.read):  # whose contents their own rank has checked
                raise ArtifactError(f"{path} vanished while the experts were trained; run the same command again")
            self._readers.append(self._files.enter_context(safe_open(path, framework="pt")))
        self._round = number

    def _forget(self, context: StageContext, number: int) -> None:
        """Remove the renewed experts of all rounds but one and its neighbours."""
        # The last checkpoint may be of the one before; the one after may be the work of a process that was killed.
        near = {path for other in (number - 1, number, number + 1) for path in self._files_of(context, other).values()}
        for path in set(self._renewed(context).glob("expert_*.safetensors")) - near:
            path.unlink(missing_ok=True)

    def _rehearse(self, context: StageContext) -> Rehearsal:
        """A group of experts of a few images stands for all; a piece is a minibatch."""
        size = min(self.experts, context.networks_at_once)
        piece = self._minibatch_of(context, size)
        began = time.perf_counter()
        piece(0)  # the first minibatches of a process take long, and so does the short one that ends an epoch
        piece(self.recipe.steps(len(context.real)) // self.train_epochs - 1)
        opening = time.perf_counter() - began
        small = copy(self)
        small.experts, small.rounds, small._files, small._readers = size, Rounds(size, size, None), ExitStack(), []
        few = context.real.take(torch.arange(min(len(context.real), self.recipe.batch_size, _REHEARSED)))
        short = replace(context, real=few, compile_networks=False, recordings={})
        # Records minibatches of this size, which the experts that follow never see.
        small._train(short, small.rounds.experts_of(0))
        began = time.perf_counter()
        small.prepare(short)
        seconds = time.perf_counter() - began
        # Every epoch of the short experts was one minibatch, which is in the seconds already.
        minibatches = self.recipe.steps(len(context.real)) - self.train_epochs
        groups = math.ceil(self.experts / size)
        return Rehearsal(small, opening + groups * seconds, groups * minibatches, piece, groups)

    def _learners(self, context: StageContext, count: int) -> list[Learner]:
        """Networks for all experts: whatever is finished, an interruption changes no digit."""
        return context.learners(count, self.recipe, len(context.real), self.experts)

    def _minibatch_of(self, context: StageContext, size: int) -> Callable[[int], None]:
        """Trains one expert, or a group of them, on one minibatch."""
        augmentation = context.augmentation if self.augment else NoAugmentation()
        learners, seed = self._learners(context, size), context.seed
        for member, learner in enumerate(learners):
            learner.load(context.bank[member])
        batches = self.recipe.batches(len(context.real), seed, "rehearsal")

        def piece(number: int) -> None:
            draws = generator(seed, "rehearsal", number)
            shown = [minibatch(context.real, batches, number, self.recipe, augmentation, draws) for _ in learners]
            step_together(learners, shown, self.learning_rate, self.recipe)

        return piece

    def preparation(self, context: StageContext) -> Preparation:
        """See :meth:`Dynamics.preparation`."""
        each = stored_bytes(len(self.read), context.network.layout.size, self.storage)
        settings, found = self._settings(context), 0
        with suppress(ArtifactError):  # made under other settings, of which the first use tells
            found = sum(holds_expert(path, settings, self.read) for path in self._files_of(context, 0).values())
        kept = min(KEPT_RENEWALS, self.renewals(context.steps.stop))
        stored = self.experts * each
        return Preparation(partial(self._rehearse, context), stored, found * each, kept * stored)

    def point(self, step: int, index: int) -> MatchPoint:
        """Draw an expert and a start epoch by counter; read two rows."""
        context = self._prepared
        assert self._round == self.rounds.at(step), "renew() comes first"
        draw = generator(context.seed, *context.keys("point", step, index))
        expert = int(torch.randint(self.experts, (), generator=draw))
        epoch = int(torch.randint(self.min_start_epoch, self.max_start_epoch + 1, (), generator=draw))
        start, target = (self._row(expert, e).to(context.device) for e in (epoch, epoch + self.epochs))
        return MatchPoint(start, target)

    @property
    def _prepared(self) -> StageContext:
        assert self._context is not None, "prepare() comes first"
        return self._context

    def close(self) -> None:
        """Close the files."""
        self._readers = []
        self._files.close()
        self._files = ExitStack()

    def _row(self, expert: int, epoch: int) -> Tensor:
        file = self._readers[expert]
        # Another run with the same settings may have stored more of them.
        return read_row(file, json.loads(file.metadata()["epochs"]).index(epoch), self.storage)

    def _settings(self, context: StageContext) -> Json:
        """What an expert's numbers depend on; the length of its training is not part of it."""
        mine, layout = self.describe(), context.network.layout
        return {
            **context.problem.describe(),
            "layout": layout.to_json(),
            "data": context.data,
            "start": context.bank.identity,
            "stage": context.stage,
            "augmentation": context.augmentation.describe() if self.augment else None,
            **{key: mine[key] for key in _DECISIVE},
        }

    def _folder(self, context: StageContext) -> Path:
        return context.experts / f"stage_{context.stage:02}-{fingerprint(self._settings(context))[:12]}"

    def _renewed(self, context: StageContext) -> Path:
        """Beside the stage, for it alone: other runs are elsewhere in their steps, and want others of them."""
        assert context.renewals is not None, "a stage has a folder for what it renews"
        return context.renewals / self._folder(context).name

    def _files_of(self, context: StageContext, number: int) -> dict[Expert, Path]:
        """The experts of a round, and where they are stored: those of the first are for other runs too."""
        folder = self._renewed(context) if number else self._folder(context)
        return {expert: folder / expert.file for expert in self.rounds.experts_of(number)}

    def _train(self, context: StageContext, experts: Sequence[Expert]) -> list[list[Tensor]]:
        """The snapshots of some experts that are read, each of shape (P,); that of epoch 0 is a start state."""
        rows: list[list[Tensor]] = []
        learners = self._learners(context, len(experts))
        for learner, expert in zip(learners, experts, strict=True):
            learner.load(context.bank[expert.member])
            rows.append([learner.parameters().cpu()] if 0 in self.read else [])

        def keep(epoch: int) -> None:
            for learner, expert, own in zip(learners, experts, rows, strict=True):
                snapshot = learner.parameters()
                if epoch in self.read:
                    own.append(snapshot.cpu())
                if epoch == self.train_epochs and not torch.isfinite(snapshot).all():
                    raise ConfigError(
                        f"dynamics.learning_rate={self.learning_rate}: expert {expert.name} of {context.title} "
                        "diverged on real data; lower it"
                    )

        train_together(
            learners,
            context.real,
            self.learning_rate,
            self.recipe,
            context.augmentation if self.augment else NoAugmentation(),
            context.seed,
            [context.keys(*expert.keys) for expert in experts],
            after_epoch=keep,
        )
        return rows
