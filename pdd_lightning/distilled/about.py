"""What is told of a distilled set beside its images: how it wants to be used, and where it comes from."""

from dataclasses import dataclass, field, replace
from typing import Final, Self

from pdd_lightning.described import rebuilt
from pdd_lightning.errors import ArtifactError
from pdd_lightning.networks import Architecture
from pdd_lightning.store.files import as_json
from pdd_lightning.training import Augmentation, Recipe
from pdd_lightning.types import ImageShape, Json

CARD: Final = 1
"""Version of the form in which an export tells of its set; readers refuse every other one."""


@dataclass(frozen=True)
class About:
    """How a set wants to be used, and where it comes from.

    Attributes:
        name: Of the set in tables of results, such as "pdd".
        class_names: By label.
        image_shape: Channels, height, width.
        recipe: How networks train on each union.
        network: The architecture that the images were made with.
        augmentation: What networks see in training.
        seed: Of the run; it decides initialisations, minibatches and augmentation.
        source: Of the real data: "data", what it was read as; "fingerprint"; "licence".
        results: Test accuracies on record, as rows of `results.json`.
        made: Under which versions the last stage was made.

    Example:
        >>> from pdd_lightning.networks import ConvNet
        >>> from pdd_lightning.training import NoAugmentation
        >>> about = About("pdd", ("0", "1"), (1, 8, 8), Recipe(), ConvNet(), NoAugmentation(), seed=0)
        >>> About.from_json(about.to_json()) == about
        True
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: ImageShape
    recipe: Recipe
    network: Architecture
    augmentation: Augmentation
    seed: int
    source: Json = field(default_factory=dict)
    results: tuple[Json, ...] = ()
    made: Json = field(default_factory=dict)

    def to_json(self) -> Json:
        """For a file."""
        return as_json(
            {
                "card": CARD,
                **vars(self),
                "recipe": self.recipe.describe(),
                "network": self.network.describe(),
                "augmentation": self.augmentation.describe(),
            }
        )

    @classmethod
    def from_json(cls, value: object) -> Self:
        """What :meth:`to_json` gave.

        Raises:
            ArtifactError: If it is of another form, or names classes that are unknown here.
        """
        if not isinstance(value, dict) or value.get("card") != CARD:
            raise ArtifactError(
                f"its description has form {value.get('card') if isinstance(value, dict) else None}, and this release "
                f"reads form {CARD}: export the set again"
            )
        try:
            return cls(
                name=str(value["name"]),
                class_names=tuple(map(str, value["class_names"])),
                image_shape=_shape(value["image_shape"]),
                recipe=rebuilt(value["recipe"], Recipe),
                network=rebuilt(value["network"], Architecture),
                augmentation=rebuilt(value["augmentation"], Augmentation),
                seed=int(value["seed"]),
                source=dict(value["source"]),
                results=tuple(map(dict, value["results"])),
                made=dict(value["made"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"its description lacks something ({error}): export the set again") from error

    def under(self, licence: str | None) -> Self:
        """The same with a licence of the real data; None leaves what is known."""
        return self if licence is None else replace(self, source={**self.source, "licence": licence})


def _shape(value: list[int]) -> ImageShape:
    channels, height, width = map(int, value)
    return channels, height, width
