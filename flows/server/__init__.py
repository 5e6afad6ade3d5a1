"""Prefect's own plumbing: its server, flow runs, events, artifacts, automations, bootstrap."""
