"""The process, readable top to bottom, as Prefect flows."""
