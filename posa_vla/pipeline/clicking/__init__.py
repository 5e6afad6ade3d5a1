"""Cameras from clicks: the page on which a person clicks, and what comes of it."""
