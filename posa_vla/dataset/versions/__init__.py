"""Versions of the data, over DVC and git."""
