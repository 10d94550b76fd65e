"""An objective of your own: the synthetic images of a class have the mean and the variance of the real embeddings."""

from torch import Tensor, nn

from pdd_lightning.dynamics import StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import features_of
from pdd_lightning.objectives import Objective, SyntheticSide, Work


class MomentMatching(Objective):
    """Squared distances of the embeddings' means and of their variances, added up over the classes.

    Args:
        real_batch_size: Real images per class and step.
        variance_weight: What the variances count, where the means count 1.

    Raises:
        ConfigError: If an option is out of range.
    """

    def __init__(self, real_batch_size: int = 64, variance_weight: float = 1.0) -> None:
        if real_batch_size < 1:
            raise ConfigError(f"objective.real_batch_size must be at least 1, got {real_batch_size}")
        if not variance_weight >= 0:
            raise ConfigError(f"objective.variance_weight must be at least 0, got {variance_weight}")
        self.real_batch_size, self.variance_weight = real_batch_size, variance_weight

    def check(self, network: nn.Module) -> None:
        """Refuse a network without features before anything is written."""
        features_of(network)

    def loss(self, synthetic: SyntheticSide, work: Work, context: StageContext) -> Tensor:
        """A scalar; what is random in it is drawn by counter, from `work.step` and `work.index`."""
        state = context.network.layout.unflatten(work.point.start)
        total, keys = work.point.start.new_zeros(()), ("own", work.step, work.index)
        for label in range(context.num_classes):
            # Conditioned on the earlier stages: `of_class` gives their images too, and only this stage's are learned.
            mine = context.network.embed(state, synthetic.of_class(label))
            real = context.network.embed(state, context.real_images(label, self.real_batch_size, *keys))
            total = total + (mine.mean(0) - real.mean(0)).square().sum()
            total = total + self.variance_weight * (_variance(mine) - _variance(real)).square().sum()
        return total


def _variance(embeddings: Tensor) -> Tensor:
    return embeddings.var(0, correction=0)  # of a single image it is zero, not undefined
