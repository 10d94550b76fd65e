"""Experts as torch's own SGD trains them, by a naive transcription."""

import torch
from torch import Tensor
from torch.nn import functional as F
from toys import SHAPE, toy_module

from pdd_lightning.compute.functional import Layout
from pdd_lightning.dynamics import StageContext
from pdd_lightning.rng import generator
from pdd_lightning.training.recipe import Batches


def by_hand(
    context: StageContext, member: int, epochs: int, *, turn: int = 0, momentum: float = 0.0, weight_decay: float = 0.0
) -> list[Tensor]:
    """The parameters after every epoch, where a member of the bank has had so many turns before."""
    module = toy_module(context.bank[member])
    layout = Layout.of(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=momentum, weight_decay=weight_decay)
    keys = ("stage", 1, "expert", member, *(("turn", turn) if turn else ()))
    batches = Batches(len(context.real), 4, context.seed, *keys, "batches")
    snapshots = [layout.flatten(module.state_dict())]
    for epoch in range(epochs):
        draws = generator(context.seed, *keys, "augment", epoch)
        for index in range(batches.per_epoch):
            batch = context.real.take(batches[epoch * batches.per_epoch + index])
            parameters = context.augmentation.draw(len(batch), SHAPE, draws)
            optimizer.zero_grad()
            logits = module(context.augmentation.apply(batch.images, parameters))
            F.cross_entropy(logits, batch.labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        snapshots.append(layout.flatten(module.state_dict()))
    return snapshots
