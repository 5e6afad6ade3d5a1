"""The control loop, the safety envelope and the Robot protocol."""
