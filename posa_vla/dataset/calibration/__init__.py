"""Cameras found from the demonstrations themselves."""
