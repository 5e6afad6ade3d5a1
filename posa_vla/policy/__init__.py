"""The one face that PosA-VLA, every baseline and every remote policy have."""
