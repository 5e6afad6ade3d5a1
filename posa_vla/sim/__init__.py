"""MuJoCo scenes, tasks, scripted expert, Gymnasium environment."""
