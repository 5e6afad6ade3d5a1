"""Where this code lies on the disk."""

from __future__ import annotations

from pathlib import Path

# The package, and the folder that holds it: the root of a checkout, or where packages are installed.
PACKAGE = Path(__file__).parent
CODE_ROOT = PACKAGE.parent
