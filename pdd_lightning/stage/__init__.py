"""A stage of progressive distillation: what is learned, where it starts, and what it leaves to the next one."""
