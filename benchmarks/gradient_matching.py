"""One iteration of gradient matching over all classes: part by part against one graph of everything.

python benchmarks/gradient_matching.py --ipc 10 --json
"""

import tempfile
from pathlib import Path

import torch
from harness import Settings, Work, compare, count, parser
from torch.func import functional_call
from torch.nn import functional as F

from pdd_lightning.dynamics import MatchPoint, StageContext
from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.networks import ConvNet
from pdd_lightning.objectives import GradientMatching, SyntheticSide
from pdd_lightning.objectives import Work as Match
from pdd_lightning.rng import generator
from pdd_lightning.training.problem import Problem
from pdd_lightning.types import LabelledImages

CLASSES = 10


def _problem(settings: Settings) -> tuple[StageContext, SyntheticSide, MatchPoint]:
    device, shape = torch.device(settings["device"]), (3, settings["size"], settings["size"])
    architecture = ConvNet(width=settings["width"])
    draw = generator(0, "benchmark")
    per_class = settings["real_batch_size"]
    real = torch.randn(CLASSES * per_class, *shape, generator=draw).to(device)
    images = torch.randn(CLASSES * settings["ipc"], *shape, generator=draw).to(device).requires_grad_()
    problem = Problem(architecture, shape, CLASSES, device=device)
    bank = StateBank.random(problem, 1)
    data = LabelledImages(real, torch.arange(len(real), device=device) % CLASSES)
    context = StageContext(
        problem=problem,
        stage=1,
        bank=bank,
        real=data,
        validation=data,
        data="benchmark",
        experts=Path(tempfile.gettempdir()),
    )
    labels = torch.arange(len(images), device=device) % CLASSES
    side = SyntheticSide(images, labels, torch.tensor(0.01, device=device))
    return context, side, MatchPoint(context.network.layout.flatten(bank[0]).to(device))


def ours(settings: Settings) -> Work:
    """A step of a stage: one class after the other, or side by side on a GPU, each graph let go at once."""
    context, side, point = _problem(settings)
    objective = GradientMatching(real_batch_size=settings["real_batch_size"], compile=settings["compile"])

    def work() -> object:
        works = [Match(point, 0, 0, part) for part in range(CLASSES)]
        total = torch.stack([*objective.losses(side, works, context)]).sum()
        return torch.autograd.grad(total, side.images)

    return work


def reference(settings: Settings) -> Work:
    """Zhao et al., ICLR 2021, algorithm 1, written down as it stands: the losses of all classes, then one backward."""
    context, side, point = _problem(settings)
    template = context.network.template
    parameters = {n: p.clone().requires_grad_() for n, p in context.network.layout.unflatten(point.start).items()}
    weights = list(parameters.values())

    def gradient(images: torch.Tensor, label: int) -> list[torch.Tensor]:
        labels = torch.full((len(images),), label, device=images.device)
        loss = F.cross_entropy(functional_call(template, parameters, (images,)), labels)
        return list(torch.autograd.grad(loss, weights, create_graph=True))

    def work() -> object:
        total = torch.zeros((), device=side.images.device)
        for label in range(CLASSES):
            real = gradient(context.real.images[context.real.labels == label], label)
            mine = gradient(side.images[side.labels == label], label)
            for a, b in zip(mine, real, strict=True):
                if a.ndim > 1:
                    x, y = a.flatten(1), b.detach().flatten(1)
                    cosine = (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1) + 1e-6)
                    total = total + (1 - cosine).sum()
        return torch.autograd.grad(total, side.images)

    return work


if __name__ == "__main__":
    options = parser(__doc__ or "")
    options.add_argument("--ipc", type=count, default=10)
    options.add_argument("--real-batch-size", type=count, default=64)
    options.add_argument("--size", type=count, default=32, help="Height and width of the images.")
    options.add_argument("--width", type=count, default=128, help="Channels of the ConvNet.")
    options.add_argument("--compile", action="store_true", help="Compile ours, as objective.compile: true does.")
    compare(__file__, options)
