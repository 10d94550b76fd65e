"""`pdd-cli select`: real images as a finished run, which everything that reads distilled images reads too."""

from dataclasses import dataclass, field

import torch

from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.evaluation.evaluator import Evaluator
from pdd_lightning.evaluation.protocol import real_job
from pdd_lightning.selection import RandomSelection, Selection
from pdd_lightning.selection.base import class_positions
from pdd_lightning.stage.context import selection_context
from pdd_lightning.stage.pictures import draw_pictures
from pdd_lightning.stage.subsets import Subset, write_subset
from pdd_lightning.store.digests import differing_keys
from pdd_lightning.store.files import as_json, write_tensors
from pdd_lightning.store.versions import made_with
from pdd_lightning.types import Json


@dataclass(frozen=True)
class Selecting:
    """What `pdd-cli select` chooses.

    Args:
        method: How to choose.
        ipc: Images per class; null takes as many as all stages of the distillation together.

    Example:
        >>> from pdd_lightning.selection import Herding
        >>> Selecting(Herding(epochs=20), ipc=10).method.name
        'herding'
    """

    method: Selection = field(default_factory=RandomSelection)
    ipc: int | None = None

    def __post_init__(self) -> None:
        if self.ipc is not None and self.ipc < 1:
            raise ConfigError(f"select.ipc must be at least 1, got {self.ipc}")


class SelectedRun:
    """Selected real images in the place of a one-stage distillation.

    Args:
        evaluator: Knows the run, its data and how networks are trained.
        selecting: What to choose.

    Raises:
        ConfigError: If a class has too few images.
    """

    def __init__(self, evaluator: Evaluator, selecting: Selecting) -> None:
        self.evaluator, self.selecting = evaluator, selecting
        self.module, self.data = evaluator.module, evaluator.data
        options = self.module.options
        self.ipc = sum(options.per_stage) if selecting.ipc is None else selecting.ipc
        self.asked = options.total_asked if selecting.ipc is None else f"select.ipc={selecting.ipc}"
        # Before anything is written.
        class_positions(self.data.train, self.data.class_names, self.ipc, self.asked)

    def settings(self) -> Json:
        """Everything that the images and their learning rate depend on, apart from the data."""
        module, evaluator, method = self.module, self.evaluator, self.selecting.method
        settings: Json = {
            "select": {"name": method.name, "method": method.describe(), "ipc": self.ipc},
            "model": module.options.problem(self.data).describe(),
            "evaluation": {"recipe": evaluator.recipe.describe(), "random_rates": evaluator.evaluation.random_rates},
        }
        return as_json(settings)  # so that they compare equal to what is read

    @property
    def complete(self) -> bool:
        """Whether the run's folder holds these images already.

        Raises:
            ArtifactError: If it holds anything else that a run left, or files of the selection were changed.
        """
        run, folder = self.module.run, self.module.run.stage(1)
        if not folder.complete:
            if folder.checkpoints.exists() or run.experts.exists():
                raise ArtifactError(
                    f"--run_dir={run.directory} holds an unfinished distillation; choose another folder for selected "
                    "images"
                )
            return False
        found = folder.read_manifest()
        if found.selected_by is None:
            raise ArtifactError(
                f"--run_dir={run.directory} holds distilled images; choose another folder for selected ones"
            )
        if changed := differing_keys(found.settings, self.settings()):
            raise ArtifactError(
                f"--run_dir={run.directory} holds images selected under other settings: {'; '.join(changed)}. Restore "
                "the old options or choose another folder"
            )
        folder.verify(None, self.data.fingerprint, None)
        return True

    def make(self) -> Subset:
        """Choose the images and tune their learning rate on held-out ones.

        Raises:
            ConfigError: If the network does not suit the method, or its training diverges.
        """
        evaluator, method, ipc = self.evaluator, self.selecting.method, self.ipc
        evaluator.check_rates()
        context = selection_context(self.module.options, self.data, evaluator.device)
        images = self.data.train.take(method.select(context, ipc, self.asked))
        network = self.module.options.network
        job = real_job(
            method.name, network, self.data, ipc, lambda member: images, evaluator.recipe, evaluator.evaluation
        )
        return Subset(images, evaluator.best_rate(job), 1)

    def write(self, subset: Subset) -> None:
        """Write what :meth:`make` gave as the run's one stage; the manifest comes last."""
        run, folder, data = self.module.run, self.module.run.stage(1), self.data
        images, labels = subset.data.images, subset.data.labels
        write_subset(folder, subset)
        write_tensors(run.preprocessing, data.preprocessing.tensors())
        pixels = data.preprocessing.invert(images)
        method = self.selecting.method.name
        draw_pictures(folder.pictures, pixels, labels, torch.ones_like(labels), data.class_names, method)
        summary: Json = {
            "images_per_class": self.ipc,
            "class_names": list(data.class_names),
            "image_shape": list(data.image_shape),
            "learning_rate": subset.rate,
            "loss": None,
            "validation_accuracies": [],
            "made": made_with(self.evaluator.device),
        }
        folder.finish(self.settings(), data.fingerprint, None, summary)
