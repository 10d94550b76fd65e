"""Images that no stage distilled as a finished run, which everything that reads distilled images reads too."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch

from pdd_lightning.errors import ArtifactError
from pdd_lightning.evaluation.evaluator import Evaluator
from pdd_lightning.evaluation.protocol import distilled_job
from pdd_lightning.stage.pictures import draw_pictures
from pdd_lightning.stage.subsets import Subset, write_subset
from pdd_lightning.store.digests import differing_keys
from pdd_lightning.store.files import as_json, write_tensors
from pdd_lightning.store.versions import made_with
from pdd_lightning.types import Json, LabelledImages


class GivenRun(ABC):
    """Selected or imported images in the place of a one-stage distillation.

    Args:
        evaluator: Knows the run, its data and how networks are trained.
        name: Of the images, in tables.
    """

    kind: ClassVar[str]
    """Key of `pdd_lightning.store.folders.GIVEN`."""

    done: ClassVar[str]
    """What was done to the images, as in "selected images"."""

    def __init__(self, evaluator: Evaluator, name: str) -> None:
        self.evaluator, self.name = evaluator, name
        self.module, self.data = evaluator.module, evaluator.data

    @property
    def rate(self) -> float | None:
        """The learning rate for training on the images; None has it tuned on held-out ones."""
        return None

    @property
    def factor(self) -> int:
        """Each stored image holds factor**2 training images."""
        return 1

    @abstractmethod
    def origin(self) -> Json:
        """Where the images come from, with all that they depend on."""

    @abstractmethod
    def images(self) -> LabelledImages:
        """The images, preprocessed, on the CPU."""

    def settings(self) -> Json:
        """Everything that the images and their learning rate depend on, apart from the data."""
        evaluator = self.evaluator
        evaluation: Json = {"recipe": evaluator.recipe.describe()}
        if self.rate is None:
            evaluation["random_rates"] = evaluator.evaluation.random_rates
        settings: Json = {
            self.kind: {"name": self.name, **self.origin()},
            "model": self.module.options.problem(self.data).describe(),
            "evaluation": evaluation,
        }
        return as_json(settings)  # so that they compare equal to what is read

    @property
    def complete(self) -> bool:
        """Whether the run's folder holds these images already.

        Raises:
            ArtifactError: If it holds anything else that a run left, or its files were changed.
        """
        run, folder = self.module.run, self.module.run.stage(1)
        if not folder.complete:
            if folder.checkpoints.exists() or run.experts.exists():
                raise ArtifactError(
                    f"--run_dir={run.directory} holds an unfinished distillation; choose another folder for "
                    f"{self.done} images"
                )
            return False
        found = folder.read_manifest()
        if found.given is None or found.given[0] != self.kind:
            raise ArtifactError(
                f"--run_dir={run.directory} holds {found.holds}; choose another folder for {self.done} ones"
            )
        if changed := differing_keys(found.settings, self.settings()):
            raise ArtifactError(
                f"--run_dir={run.directory} holds images {self.done} under other settings: {'; '.join(changed)}. "
                "Restore the old options or choose another folder"
            )
        folder.verify(None, self.data.fingerprint, None)
        return True

    def check(self) -> None:
        """Refuse what :meth:`make` would refuse, before anything is written.

        Raises:
            ConfigError: If a learning rate is to be tuned and there is nothing to tune it on.
        """
        if self.rate is None:
            self.evaluator.check_rates()

    def make(self) -> Subset:
        """Gather the images, and tune their learning rate on held-out ones where none is given.

        Raises:
            ConfigError: If the network does not suit the images.
        """
        rates: Sequence[float] = self.evaluator.evaluation.random_rates
        subset = Subset(self.images(), self.rate or rates[0], 1, self.factor)
        if self.rate is not None:
            return subset
        evaluator, network = self.evaluator, self.module.options.network
        job = distilled_job(
            self.name, "union", network, [subset], evaluator.recipe, evaluator.evaluation.seeds, baseline=True
        )
        return replace(subset, rate=evaluator.best_rate(replace(job, candidates=rates)))

    def write(self, subset: Subset) -> None:
        """Write what :meth:`make` gave as the run's one stage; the manifest comes last."""
        run, folder, data = self.module.run, self.module.run.stage(1), self.data
        images, labels = subset.data.images, subset.data.labels
        write_subset(folder, subset)
        write_tensors(run.preprocessing, data.preprocessing.tensors())
        pixels = data.preprocessing.invert(images)
        draw_pictures(folder.pictures, pixels, labels, torch.ones_like(labels), data.class_names, self.name)
        counts = labels.bincount(minlength=data.num_classes)
        summary: Json = {
            "images_per_class": int(counts[0]) if bool((counts == counts[0]).all()) else None,
            "class_names": list(data.class_names),
            "image_shape": list(data.image_shape),
            "learning_rate": subset.rate,
            "loss": None,
            "validation_accuracies": [],
            "made": made_with(self.evaluator.device),
        }
        folder.finish(self.settings(), data.fingerprint, None, summary)
