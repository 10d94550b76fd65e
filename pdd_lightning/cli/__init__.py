"""The command line: what `pdd-cli` understands, and a file for each of its commands."""
