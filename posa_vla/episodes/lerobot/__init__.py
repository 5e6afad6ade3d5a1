"""LeRobot datasets as this project reads and writes them."""
