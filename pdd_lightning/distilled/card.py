"""What people read beside the pictures of an export: what the set is, and how to use it."""

import re
from statistics import fmean
from typing import Final

import yaml

from pdd_lightning.distilled.distilled_set import DistilledSet
from pdd_lightning.distilled.eight_bits import Loss
from pdd_lightning.types import Json

_FOLDERS: Final = """\
from torchvision.datasets import ImageFolder

# Images of stage 1; labels follow the alphabet, see `first.class_to_idx`.
first = ImageFolder("path/to/this/folder/stage_1")
"""

_DATASET: Final = """\
from datasets import load_dataset

images = load_dataset("path/to/this/folder", split="train")  # columns image, label and stage
first = images.filter(lambda row: row["stage"] == 1)
"""


def folder_page(distilled: DistilledSet) -> str:
    """`README.md` of a folder of pictures.

    Args:
        distilled: The set.
    """
    note = (
        "Classes are folders: `%2F` and the like stand for characters that no file's name may hold, and\n"
        "`distilled.json` has the true names in the order of the set's own labels. A file's number is its place in\n"
        "the stage.\n"
    )
    return _page(distilled, _FOLDERS, note)


def dataset_card(distilled: DistilledSet, held_bytes: int, file_bytes: int) -> str:
    """`README.md` of a dataset of Hugging Face, whose header tells `datasets` what to load.

    Args:
        distilled: The set.
        held_bytes: Of the table in memory.
        file_bytes: Of its file.
    """
    names = {str(label): name for label, name in enumerate(distilled.about.class_names)}
    count = sum(len(subset.data) for subset in distilled.stages)
    header = {
        **_licence(str(distilled.about.source.get("licence", "not stated"))),
        "task_categories": ["image-classification"],
        "tags": ["dataset-distillation"],
        "size_categories": [_size(count)],
        "dataset_info": {
            "features": [
                {"name": "image", "dtype": "image"},
                {"name": "label", "dtype": {"class_label": {"names": names}}},
                {"name": "stage", "dtype": "int64"},
            ],
            "splits": [{"name": "train", "num_bytes": held_bytes, "num_examples": count}],
            "download_size": file_bytes,
            "dataset_size": held_bytes,
        },
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}],
    }
    text = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n\n{_page(distilled, _DATASET, '')}"


def _page(distilled: DistilledSet, reading: str, note: str) -> str:
    about, source, last = distilled.about, distilled.about.source, distilled.stages[-1]
    stages = "".join(f"| {s.stage} | {len(s.data)} | {s.rate:.6g} |\n" for s in distilled.stages)
    count = sum(len(s.data) for s in distilled.stages)
    recipe = ", ".join(f"{name} {value}" for name, value in _options(about.recipe.describe()))
    held = (
        f"Each picture holds {last.factor**2} training images, its {last.factor}x{last.factor} tiles enlarged "
        "bilinearly.\n"
        if last.factor > 1
        else ""
    )
    preprocessing = distilled.preprocessing
    white = ", then whitened (ZCA)" if preprocessing.whitening is not None else ""
    moments = [", ".join(f"{v:.6g}" for v in tensor.tolist()) for tensor in (preprocessing.mean, preprocessing.std)]
    return f"""\
# {about.name}: {count} images in place of {source.get("data", "a training set")}

Networks are trained on them progressively: first on stage 1 at its learning rate, then on stages 1 and 2 together at
that of stage 2, and so on.

```python
import pdd_lightning as pdd

distilled = pdd.load("path/to/this/folder")
network = distilled.train(seed=0)
```

Without pdd_lightning:

```python
{reading}```

{note}{held}
| stage | images | learning rate |
| ---: | ---: | ---: |
{stages}
- Training: {about.network.name}, augmentation {type(about.augmentation).__name__}; on each union {recipe}.
  Every option is in `distilled.json`.
- Networks read (pixel - {moments[0]}) / {moments[1]} of pixels in [0, 1]{white}; `preprocessing.safetensors` holds
  this map and its inverse.
- {Loss.of(distilled)}.
{_results(about.results)}\
- Source: {source.get("data", "unknown")}, fingerprint {source.get("fingerprint", "unknown")}. Licence of the real
  images: {source.get("licence", "not stated")}.
"""


def _options(described: Json) -> list[tuple[str, object]]:
    return [(name, value) for name, value in described.items() if name != "class_path"]


def _results(rows: tuple[Json, ...]) -> str:
    """Of the whole set, the test accuracy of each order and network that is on record."""
    stages = [stage for row in rows if isinstance(stage := row.get("stage"), int)]
    found = [row for row in rows if row.get("stage") == max(stages, default=None)]
    lines = ""
    for row in found:
        if isinstance(accuracies := row.get("accuracies"), list) and accuracies:
            lines += (
                f"- Test accuracy of the images before they were rounded to 8 bits, {row.get('order')}, "
                f"{row.get('network')}: {100 * fmean(accuracies):.1f} %\n  ({len(accuracies)} networks).\n"
            )
    return lines


def _licence(text: str) -> Json:
    """As the Hub names licences: by an identifier where the text begins with one."""
    known = re.match(r"(cc[ -]by([ -](nc|sa|nd))*[ -]\d\.\d|cc0[ -]1\.0|mit\b|apache[ -]2\.0)", text, re.IGNORECASE)
    if known:
        return {"license": known[0].lower().replace(" ", "-")}
    return {"license": "unknown"} if text == "not stated" else {"license": "other", "license_name": text}


def _size(count: int) -> str:
    bounds = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
    return next((name for bound, name in bounds.items() if count < bound), "1M<n<10M")
