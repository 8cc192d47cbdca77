"""Artefacts for other programs, each verified against the run before it is kept."""
