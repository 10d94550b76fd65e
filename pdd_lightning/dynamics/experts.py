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
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pdd_lightning.dynamics.base import Dynamics, MatchPoint, Preparation, Rehearsal
from pdd_lightning.dynamics.context import StageContext
from pdd_lightning.dynamics.expert_files import Storage, pack_rows, read_row, rows_read, stored_bytes
from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.process.workers import share_out
from pdd_lightning.progress import Progress
from pdd_lightning.rng import generator
from pdd_lightning.store.digests import differing_keys, fingerprint
from pdd_lightning.store.files import read_tensors, require_format, write_json, write_tensors
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
        experts: Number of trajectories, one for each start state of the bank.
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
    members_option: ClassVar[str | None] = "experts"
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
    ) -> None:
        for name, value in {"experts": experts, "epochs": epochs}.items():
            if value < 1:
                raise ConfigError(f"dynamics.{name} must be at least 1, got {value}")
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

    @property
    def members(self) -> int:
        """One expert for each start state."""
        return self.experts

    def prepare(self, context: StageContext) -> None:
        """Train the experts that are not stored yet, each rank its share, and open all of them."""
        self._context = context
        settings, folder = self._settings(context), self._folder(context)
        paths = self._paths(folder)
        together = groups(
            context.ranks.share(self.experts),
            context.networks_at_once,
            lambda member: _holds(paths[member], settings, self.read, member),
        )
        if together:
            title = f"{context.title}: experts ({self.train_epochs} epochs each)"
            with (
                Progress(enabled=context.ranks.rank == 0) as progress,
                progress.task(title, sum(map(len, together))) as task,
            ):

                def train(group: Sequence[int], advance: Callable[[int], object]) -> None:
                    for member, rows in zip(group, self._train(context, group), strict=True):
                        signature = {"settings": json.dumps(settings), "epochs": json.dumps(self.read)}
                        signature["member"] = str(member)
                        write_tensors(paths[member], pack_rows(rows, self.storage), signature)
                    advance(len(group))

                def done(experts: int) -> None:
                    if context.ranks.rank == 0 and task.done == 0:
                        write_json(folder / "settings.json", settings)  # for people; not before there is an expert
                    task.advance(experts)

                context.compile(self.recipe, len(context.real), self.experts)
                share_out(train, together, context.workers, done)
        context.ranks.barrier()
        context.recordings.clear()  # what follows needs their memory
        self.close()
        for path in paths:
            if not _holds(path, settings, self.read):  # whose contents their own rank has checked
                raise ArtifactError(f"{path} vanished while the experts were trained; run the same command again")
            self._readers.append(self._files.enter_context(safe_open(path, framework="pt")))

    def _rehearse(self, context: StageContext) -> Rehearsal:
        """A group of experts of a few images stands for all; a piece is a minibatch."""
        size = min(self.experts, context.networks_at_once)
        piece = self._minibatch_of(context, size)
        began = time.perf_counter()
        piece(0)  # the first minibatches of a process take long, and so does the short one that ends an epoch
        piece(self.recipe.steps(len(context.real)) // self.train_epochs - 1)
        opening = time.perf_counter() - began
        small = copy(self)
        small.experts, small._files, small._readers = size, ExitStack(), []
        few = context.real.take(torch.arange(min(len(context.real), self.recipe.batch_size, _REHEARSED)))
        short = replace(context, real=few, compile_networks=False, recordings={})
        small._train(short, range(size))  # records minibatches of this size, which the experts that follow never see
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
            found = sum(_holds(path, settings, self.read) for path in self._paths(self._folder(context)))
        return Preparation(partial(self._rehearse, context), self.experts * each, found * each)

    def point(self, step: int, index: int) -> MatchPoint:
        """Draw an expert and a start epoch by counter; read two rows."""
        context = self._context
        assert context is not None, "prepare() comes first"
        draw = generator(context.seed, *context.keys("point", step, index))
        expert = int(torch.randint(self.experts, (), generator=draw))
        epoch = int(torch.randint(self.min_start_epoch, self.max_start_epoch + 1, (), generator=draw))
        start, target = (self._row(expert, e).to(context.device) for e in (epoch, epoch + self.epochs))
        return MatchPoint(start, target)

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

    def _paths(self, folder: Path) -> list[Path]:
        return [folder / f"expert_{member:04d}.safetensors" for member in range(self.experts)]

    def _train(self, context: StageContext, members: Sequence[int]) -> list[list[Tensor]]:
        """The snapshots of some experts that are read, each of shape (P,); that of epoch 0 is a start state."""
        rows: list[list[Tensor]] = []
        learners = self._learners(context, len(members))
        for learner, member in zip(learners, members, strict=True):
            learner.load(context.bank[member])
            rows.append([learner.parameters().cpu()] if 0 in self.read else [])

        def keep(epoch: int) -> None:
            for learner, member, own in zip(learners, members, rows, strict=True):
                snapshot = learner.parameters()
                if epoch in self.read:
                    own.append(snapshot.cpu())
                if epoch == self.train_epochs and not torch.isfinite(snapshot).all():
                    raise ConfigError(
                        f"dynamics.learning_rate={self.learning_rate}: expert {member} of {context.title} "
                        "diverged on real data; lower it"
                    )

        train_together(
            learners,
            context.real,
            self.learning_rate,
            self.recipe,
            context.augmentation if self.augment else NoAugmentation(),
            context.seed,
            [context.keys("expert", member) for member in members],
            after_epoch=keep,
        )
        return rows


def _holds(path: Path, settings: Json, epochs: list[int], member: int | None = None) -> bool:
    """Whether a file holds an expert of these settings with the snapshots of these epochs.

    A lesser or damaged one is made again: experts can always be rebuilt. One made under other settings did not
    come from here, and is refused. With the number of the member, the contents are checked against their digest too.
    """
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            stored = json.loads(metadata.get("epochs", "[]"))
            # Rows in bfloat16 are sums over those before, so that others before them make them others.
            enough = stored == epochs if settings["storage"] == "bfloat16" else {*epochs} <= {*stored}
    except (SafetensorError, OSError, ValueError, TypeError):
        return False
    try:
        found = json.loads(metadata["settings"])
    except (KeyError, ValueError):
        found = {}
    require_format(path, metadata.get("format"))
    if found != settings:
        raise ArtifactError(
            f"{path} was made for another network, data set or training: {'; '.join(differing_keys(found, settings))}. "
            f"Delete {path.parent} to train these experts again, or point --experts_dir elsewhere"
        )
    if member is not None and enough:
        try:
            read_tensors(path)
        except ArtifactError:
            return False
        return bool(metadata.get("member", str(member)) == str(member))
    return enough
