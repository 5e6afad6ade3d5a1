"""The page of a retraining: what was decided, on which evidence, and what changed since the champion."""
