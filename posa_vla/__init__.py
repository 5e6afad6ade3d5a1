"""PosA-VLA from demonstrations to a verified policy on a robot."""

__version__ = "0.1.0"
