"""Procedures of several steps, which flows and commands call; nothing here imports Prefect."""
