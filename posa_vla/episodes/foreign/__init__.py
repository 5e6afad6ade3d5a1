"""LeRobot datasets of other people's robots."""
