"""Datasets taken in and given out."""
