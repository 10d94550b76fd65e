"""How good the distilled images are, and the report of it."""
