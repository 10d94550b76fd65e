"""What a set that is read from a run says of the data it was made of."""

import pytest

from pdd_lightning.distilled.from_run import LICENCES, _source
from pdd_lightning.store.folders import Manifest


@pytest.mark.parametrize(
    ("data", "said", "licence"),
    [
        (
            {"class_path": "pdd_lightning.ImageFolderData", "init_args": {"root": "/somebody/letters/"}},
            "the images in letters",
            "not stated",
        ),
        ({"class_path": "ImageFolderData", "init_args": {"root": "."}}, "ImageFolderData", "not stated"),
        ({"class_path": "DigitsData", "init_args": {}}, "DigitsData", LICENCES["DigitsData"]),
        ({}, "unknown", "not stated"),
    ],
)
def test_data_is_named_without_a_path_of_the_machine(data: dict[str, object], said: str, licence: str) -> None:
    manifest = Manifest(settings={}, data="fingerprint", previous=None, files={}, summary={})
    assert _source(manifest, {"data": data}) == {"data": said, "fingerprint": "fingerprint", "licence": licence}
