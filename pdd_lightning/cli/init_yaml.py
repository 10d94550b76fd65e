"""The text of the configuration that `pdd-cli init` writes: every option that one would change, and when."""

from dataclasses import dataclass
from typing import Any, Final

import yaml

from pdd_lightning.distilling.new_data import Method, Settings

TITLES: Final[dict[Method, str]] = {
    "mtt": "trajectory matching (MTT)",
    "dc": "gradient matching (DC)",
    "dsa": "gradient matching with siamese augmentation (DSA)",
    "idc": "gradient matching along real training (IDC)",
    "dm": "distribution matching (DM)",
    "cafe": "feature alignment (CAFE)",
}
"""What each method is called."""

WHITENED: Final = ("CIFAR10Data", "CIFAR100Data")
"""Data of which zca is worth a try: the published settings of trajectory matching use it."""


@dataclass(frozen=True)
class Written:
    """What the text needs beside the settings.

    Args:
        run_dir: Folder of the run.
        data: Class of the data.
        options: Of the data, besides those that every data set has.
        cache_dir: Where decoded images are kept; None keeps none.
        about: The data in a line.
        gpu: Whether it is for a GPU.
    """

    run_dir: str
    data: str
    options: dict[str, Any]
    cache_dir: str | None
    about: str
    gpu: bool


def configuration(settings: Settings, written: Written) -> str:
    """The whole text.

    Args:
        settings: What was chosen.
        written: The rest.
    """
    s, w = settings, written
    parts = [_head(s, w), _data(s, w), _model(s), _evaluation(s)]
    return "\n".join(parts)


def _head(s: Settings, w: Written) -> str:
    stages = f"{s.stages} stages" if s.stages > 1 else "one stage"
    images = "images" if s.ipc > 1 else "image"
    return f"""\
# Progressive dataset distillation of {w.about},
# in {stages} of {s.ipc} {images} per class, by {TITLES[s.method]}. Made for {"a GPU" if w.gpu else "CPU cores"}.
# Paths begin at the folder where the command is given. `pdd-cli plan --config FILE` says what the run takes and
# `pdd-cli run --config FILE` does it; any option can be given there too, as in --model.ipc 5. `pdd-cli fit --config
# FILE --print_config` shows those that are left out here, with their values.
run_dir: {_scalar(w.run_dir)} # all results; another folder for each try
threads: {_scalar(s.threads)} # CPU threads of each process; null leaves it to PyTorch. Tiny networks are fastest with 1
trainer: {{accelerator: {"gpu" if w.gpu else "cpu"}}} # gpu and devices: 2 for two of them
"""


def _data(s: Settings, w: Written) -> str:
    lines = [f"    {name}: {_scalar(value)}{_DATA_COMMENTS.get(name, '')}" for name, value in w.options.items()]
    if w.data in WHITENED:
        lines.append("    zca: false # true whitens the images, as published for trajectory matching")
    text = "\n".join(lines)
    return f"""\
data:
  class_path: {w.data}
  init_args:
{text + chr(10) if text else ""}\
    validation_fraction: {s.validation_fraction:g} # of the training images: they judge rates and stages
    max_per_class: {_scalar(s.max_per_class)} # learn from so many images of each class, to save time; null takes all
    split_seed: 0 # which images are held out
    cache_dir: {_scalar(w.cache_dir)} # keeps decoded images for the next stage; null reads them anew
"""


_DATA_COMMENTS: Final = {
    "root": " # folder of the data",
    "download": " # fetches the archive where it is missing",
    "image_size": " # resize to so many pixels square; null takes images as they are",
    "grey": " # false reads three channels, true one, null decides by the images",
    "test_fraction": " # of each class, held out for the table; unused where there are train/ and test/",
}


def _model(s: Settings) -> str:
    operations = "[color, crop, cutout, flip, scale, rotate]" if s.flip else "[color, crop, cutout, scale, rotate]"
    return f"""\
model:
  network:
    class_path: ConvNet # the network that is matched; ResNet is the other one
    init_args:
      width: {s.width} # channels of every block: accuracy and time grow with it; 128 is published
      depth: {s.depth} # blocks, each of which halves the images' sides
{_OBJECTIVES[s.method]}{_dynamics(s)}\
  augmentation:
    class_path: DSA # used wherever networks train on distilled images; NoAugmentation for none
    init_args:
      operations: {operations} # flip only where a mirrored image is of the same class
  stages: {s.stages} # number of subsets; more capture later phases of training
  ipc: {s.ipc} # images per class of each stage; one number, or a list with one for each stage
  iterations: {s.iterations} # optimiser steps of a stage, or a list; more if the matching loss still falls at its end
  initial: real # begin with real images, or with noise
  optimizer: adam # of the images; sgd is published and needs another image_lr
  image_lr: {_scalar(s.image_lr)} # of the images, or a list: higher if the loss hardly moves, lower if it jumps
  learning_rate: {_scalar(s.learning_rate)} # alpha, of networks on these images{_ALPHA[s.learning_rate_lr > 0]}
  learning_rate_lr: {_scalar(s.learning_rate_lr)} # how fast alpha is learned; 0 keeps it as it is
  recipe: # how networks train on the images, between two stages and in the table
    epochs: {s.epochs} # passes over the images of the stages so far
    batch_size: 256 # images per step
    momentum: {_scalar(s.momentum)}{_MOMENTUM[s.momentum == 0]}
    weight_decay: {_scalar(s.weight_decay)}
    decay_at: [0.5] # after half of the epochs, a tenth of the rate
    decay: 0.1
  conditioning: true # match beside the earlier images; false is an ablation
  transition: true # begin where training on the earlier images ended; false is an ablation
  seed: 0 # of everything random
"""


_ALPHA: Final = {True: ", at the start: it is learned", False: ""}
_MOMENTUM: Final = {
    True: " # alpha is learned for plain steps: momentum would lengthen them",
    False: " # of SGD",
}


def _objective(name: str, options: str) -> str:
    return f"  objective:\n    class_path: {name}\n    init_args:\n{options}"


_REAL: Final = "      real_batch_size: 256 # real images per class and step\n"
_PLAIN: Final = "      augmentation: NoAugmentation # compare images as they are\n"
_OBJECTIVES: Final[dict[Method, str]] = {
    "mtt": _objective(
        "TrajectoryMatching # arrive where training on real data arrives",
        "      syn_steps: 20 # on distilled images, in place of the experts' epochs; time grows with it\n"
        "      syn_batch_size: stage # images per step: as many as a stage has, a number, or union\n",
    ),
    "dc": _objective("GradientMatching # have the gradients that real images have", _REAL + _PLAIN),
    "dsa": _objective("GradientMatching # have the gradients that real images have", _REAL),
    "idc": _objective(
        "GradientMatching # have the gradients that real images have",
        "      distance: mse # squared differences\n      layers: convolutions\n"
        "      real_batch_size: 64 # real images per class and step\n"
        "      syn_batch_size: 128 # distilled images per class and step, at most\n",
    ),
    "dm": _objective("MeanEmbedding # have the mean features that real images have", _REAL),
    "cafe": _objective(
        "FeatureAlignment # have the mean features of every layer, and tell classes apart by them",
        "      discrimination: 1.0 # weight of telling classes apart; 0 leaves it out\n" + _REAL + _PLAIN,
    ),
}


def _dynamics(s: Settings) -> str:
    states = f"      start_states: {s.members} # networks to compare on; the end of a stage trains each\n"
    network = f"      batch_size: {s.batch_size} # images per step of the network\n"
    text = {
        "mtt": "ExpertTrajectories # along stored trainings on real data\n    init_args:\n"
        f"      experts: {s.members} # trainings; more vary more, and take time before the first step\n"
        f"      epochs: {s.match_epochs} # from start to target of a match: far enough that it is more than noise\n"
        f"      max_start_epoch: {s.max_start_epoch} # latest start of a match; later phases of training need more\n"
        f"      learning_rate: {_scalar(s.expert_rate)} # of the experts\n"
        f"      batch_size: {s.batch_size} # real images per step of an expert\n"
        f"      augment: {_scalar(s.augment)} # whether experts see augmented images: more noise in a match\n"
        "      storage: float32 # bfloat16 takes half of the disk\n",
        "dc": f"SyntheticTraining # along training on the distilled images\n    init_args:\n{states}"
        "      episode: 10 # steps along a network\n      epochs: 10 # passes over the images after each\n",
        "idc": f"RealTraining # along training on real images\n    init_args:\n{states}"
        f"      episode: 50 # steps along a network\n      examples: 256 # real images after each\n{network}",
        "dm": f"StartStates # at networks as a stage begins with them\n    init_args:\n{states}",
        "cafe": f"DynamicTraining # along training on the distilled images while it helps\n    init_args:\n{states}"
        "      episode: 20 # steps along a network, at most\n      epochs: 20 # passes after each, at most\n"
        "      query_images: 320 # real images whose accuracy decides\n",
    }
    return f"  dynamics:\n    class_path: {text['dc' if s.method == 'dsa' else s.method]}"


def _evaluation(s: Settings) -> str:
    return f"""\
evaluation:
  seeds: 5 # fresh networks for every row of the table
  orders: [progressive] # add union and sequential to compare the ways of showing the subsets
  # Add one-stage, which takes as long as all stages, one-stage-short, as long as one, herding, k-center or forgetting.
  baselines: [random, full]
  random_rates: {list(s.random_rates)} # tried on held-out images for the random subset
  full: {{epochs: {s.full_epochs}, batch_size: {s.batch_size}}} # how networks train on all data
  full_rate: {_scalar(s.full_rate)} # their rate
"""


def _scalar(value: object) -> str:
    """A value as YAML has it."""
    text: str = yaml.safe_dump(value, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
