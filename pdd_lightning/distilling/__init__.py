"""Distilling and evaluating from Python, in one process and without a configuration file."""

from pdd_lightning.distilling.recorded import recorded_data
from pdd_lightning.distilling.results import Results
from pdd_lightning.distilling.scoring import evaluate
from pdd_lightning.distilling.whole_run import distil

__all__ = ["Results", "distil", "evaluate", "recorded_data"]
