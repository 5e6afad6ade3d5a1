"""The robot side: drivers, control loop, safety envelope, release agent."""
