"""Episodes and embodiments: what demonstrations are, on disk and in memory."""
