"""Digests: the same for ever, and other ones for other contents."""

import torch

from pdd_lightning.store.digests import differing_keys, digest, fingerprint
from pdd_lightning.types import Json


def test_a_fingerprint_is_the_same_for_ever() -> None:
    """Another value would make every stored run look changed."""
    assert fingerprint({"a": 1, "b": [0.1, None, "x"]}) == "2508cba78e338cea5c06fa43deee7d82"


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])


def test_differing_keys_are_dotted_with_both_values() -> None:
    old: Json = {"a": {"b": 1, "c": 2}, "d": 3}
    assert differing_keys(old, {"a": {"b": 1, "c": 5}, "e": "x"}) == [
        "a.c: 2 then, 5 now",
        "d: 3 then, None now",
        "e: None then, 'x' now",
    ]


def test_digest_is_stable() -> None:
    assert digest(torch.arange(3), "a") == "60a7d9ba1b538de0e7245982152e6d1f"


def test_digest_tells_contents_shape_type_and_order_apart() -> None:
    zeros = torch.zeros(4, dtype=torch.int64)
    variants = [
        digest(zeros),
        digest(zeros.view(2, 2)),
        digest(zeros.to(torch.int32)),
        digest(zeros, zeros),
        digest(zeros[:2], zeros[:2]),
        digest([0, 0, 0, 0]),
        digest("a", "b"),
        digest("b", "a"),
        digest("ab"),
        digest(None),
    ]
    assert len(set(variants)) == len(variants)
    assert digest(torch.arange(6).view(2, 3).T) == digest(torch.arange(6).view(2, 3).T.contiguous())
