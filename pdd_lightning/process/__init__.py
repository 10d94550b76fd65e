"""Processes: signals, the lock on a run's folder, several devices, and how a command ends."""
