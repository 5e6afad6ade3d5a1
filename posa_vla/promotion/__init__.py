"""The gate, the model registry, the promotion log."""
