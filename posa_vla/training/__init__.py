"""The plain torch training loop, its checkpoints, and its launch on Ray."""
