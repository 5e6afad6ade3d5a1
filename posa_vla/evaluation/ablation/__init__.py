"""Ablations: plan, figures, report."""
