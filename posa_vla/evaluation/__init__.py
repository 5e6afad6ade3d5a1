"""Rollouts, metrics, reports."""
