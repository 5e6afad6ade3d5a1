"""PosA-VLA: encoders, anchor attention, losses, flow-matching transformer."""
