"""LightningModules: a stage of distillation, and the evaluation of what it made."""
