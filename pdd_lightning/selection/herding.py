"""Herding: examples whose features have the mean of their class."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pdd_lightning.selection.trained import FeatureSelection


@dataclass(frozen=True)
class Herding(FeatureSelection):
    """Adds, one after the other, the example that brings the mean of the chosen features closest to the class mean.

    Source: Welling, ICML 2009, in the form of Rebuffi et al. (iCaRL, CVPR 2017, Algorithm 4) without replacement
    and without normalising the features.

    Example:
        >>> features = torch.tensor([[0.0], [4.0], [5.0]])  # their mean is 3
        >>> Herding().pick(features, count=2)
        tensor([1, 0])
    """

    name = "herding"

    def pick(self, features: Tensor, count: int) -> Tensor:
        """See :meth:`FeatureSelection.pick`; of equally good examples the first is taken."""
        mean, total = features.mean(0), torch.zeros_like(features[0])
        taken = torch.zeros(len(features), dtype=torch.bool, device=features.device)
        rows = []
        for size in range(1, count + 1):
            distances = ((total + features) / size - mean).square().sum(1)
            row = distances.masked_fill(taken, float("inf")).argmin()
            taken[row] = True
            total = total + features[row]
            rows.append(row)
        return torch.stack(rows)
