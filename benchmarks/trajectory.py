"""Iterations of trajectory matching: the exact constant-memory walk against the unrolled graph.

python benchmarks/trajectory.py --images 20 --syn-steps 50 --json
"""

import warnings
from collections.abc import Callable

import torch
from harness import Settings, Work, compare, count, natural, parser
from torch.func import functional_call
from torch.nn import functional as F

from pdd_lightning.compute.functional import FunctionalNetwork
from pdd_lightning.compute.step_products import CompiledStepMath, StepMath
from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import ConvNet, build_template
from pdd_lightning.objectives.trajectory import normalised_distance
from pdd_lightning.objectives.walk import Walk, walk_ends
from pdd_lightning.rng import generator
from pdd_lightning.training.recipe import Batches

WAYS = ("compile", "recompute", "store")
"""Formulations of ours: with the options `compile: true`, `recompute: true` and `recompute: false` of the objective."""


def _problem(settings: Settings) -> tuple[FunctionalNetwork, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Network, start, target, images and labels."""
    device, shape = torch.device(settings["device"]), (3, settings["size"], settings["size"])
    architecture = ConvNet(width=settings["width"])
    network = FunctionalNetwork(build_template(architecture, shape, 10), device)
    start = network.layout.flatten(build_template(architecture, shape, 10).state_dict()).to(device)
    draw = generator(0, "benchmark")
    target = start + 0.01 * torch.randn(start.shape, generator=draw).to(device)
    images = torch.randn(settings["images"], *shape, generator=draw).to(device)
    labels = torch.arange(settings["images"], device=device) % 10
    return network, start, target, images, labels


def _learned(images: torch.Tensor, settings: Settings) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """The images that are learned, and how the union is made of them: earlier subsets only condition the walk."""
    if settings["previous"] >= len(images):
        raise ConfigError(f"--previous={settings['previous']} leaves none of --images={len(images)} to learn")
    previous, learned = images[: settings["previous"]], images[settings["previous"] :].clone().requires_grad_()
    return learned, (lambda x: torch.cat([previous, x])) if len(previous) else (lambda x: x)


def _steps(
    union: Callable[[torch.Tensor], torch.Tensor], labels: torch.Tensor, settings: Settings
) -> Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]:
    """What a step trains on: a minibatch of the union, in an order of its own, or all of it."""
    batches = Batches(len(labels), settings["batch_size"] or None, 0, "benchmark")

    def data(learned: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        if batches.whole:
            return union(learned), labels
        chosen = batches[step].to(labels.device)
        return union(learned)[chosen], labels[chosen]

    return data


def ours(settings: Settings) -> Work:
    """The walk that a stage takes."""
    network, start, target, images, labels = _problem(settings)
    learned, union = _learned(images, settings)
    rate = torch.tensor(0.01, device=start.device, requires_grad=True)
    walk = Walk(
        network,
        start,
        settings["syn_steps"],
        _steps(union, labels, settings),
        settings["way"] == "store",
        (CompiledStepMath if settings["way"] == "compile" else StepMath)(network),
    )

    def work() -> object:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="objective.compile")
            try:
                return gradients()
            except UserWarning as warning:
                why = str(warning).partition("; going on")[0]
                raise ConfigError(f"--way=compile: {why}. Install g++, or choose --way recompute") from warning

    def gradients() -> object:
        ends = walk_ends(learned, rate, [walk] * settings["walks"])
        losses = [normalised_distance(end, start, target) for end in ends]
        return torch.autograd.grad(torch.stack(losses).sum(), (learned, rate))

    return work


def reference(settings: Settings) -> Work:
    """Cazenavette et al., CVPR 2022, algorithm 1, written down as it stands: the graph of all steps is kept."""
    network, start, target, images, labels = _problem(settings)
    learned, union = _learned(images, settings)
    data = _steps(union, labels, settings)
    rate = torch.tensor(0.01, device=start.device, requires_grad=True)

    def walk() -> object:
        theta = start.clone().requires_grad_()
        for step in range(settings["syn_steps"]):
            inputs, targets = data(learned, step)
            logits = functional_call(network.template, network.layout.unflatten(theta), (inputs,))
            (gradient,) = torch.autograd.grad(F.cross_entropy(logits, targets), theta, create_graph=True)
            theta = theta - rate * gradient
        loss = (theta - target).square().sum() / (start - target).square().sum()
        return torch.autograd.grad(loss, (learned, rate))

    return lambda: [walk() for _ in range(settings["walks"])]


if __name__ == "__main__":
    options = parser(__doc__ or "")
    options.add_argument("--images", type=count, default=20)
    options.add_argument("--previous", type=natural, default=0, help="Images that belong to earlier stages.")
    options.add_argument("--batch-size", type=natural, default=0, help="Images of a step; 0 takes the whole union.")
    options.add_argument("--syn-steps", type=count, default=50)
    options.add_argument("--walks", type=count, default=1, help="Match points, which ours takes side by side on a GPU.")
    options.add_argument("--size", type=count, default=32, help="Height and width of the images.")
    options.add_argument("--width", type=count, default=128, help="Channels of the ConvNet.")
    options.add_argument("--way", choices=WAYS, default="compile", help="Ours: compiled, recomputed, or graphs kept.")
    compare(__file__, options)
