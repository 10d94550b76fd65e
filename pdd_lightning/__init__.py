"""Progressive dataset distillation as a PyTorch Lightning system."""

__version__ = "0.1.0"
