"""What a run will take, measured before it starts, and what it took."""
