"""K-Center: examples that leave no other example of their class far away."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pdd_lightning.selection.trained import FeatureSelection


@dataclass(frozen=True)
class KCenter(FeatureSelection):
    """Adds, one after the other, the example that is farthest from the chosen ones, within each class.

    The greedy 2-approximation of the k-center problem (Farahani and Hekmatfar, Facility Location, 2009; Sener and
    Savarese, ICLR 2018, Algorithm 1), started at the example nearest to the mean of its class.

    Example:
        >>> features = torch.tensor([[0.0], [4.0], [5.0]])  # their mean is 3
        >>> KCenter(epochs=20).pick(features, count=2)
        tensor([1, 0])
    """

    name = "k-center"

    def pick(self, features: Tensor, count: int) -> Tensor:
        """See :meth:`FeatureSelection.pick`; of equally good examples the first is taken."""
        row = (features - features.mean(0)).square().sum(1).argmin()
        rows = [row]
        nearest = torch.full_like(features[:, 0], float("inf"))  # squared distance to the nearest chosen example
        while len(rows) < count:
            nearest = torch.minimum(nearest, (features - features[row]).square().sum(1))
            # Below every distance: where examples coincide, even the farthest one is at 0.
            nearest[row] = -1
            row = nearest.argmax()
            rows.append(row)
        return torch.stack(rows)
