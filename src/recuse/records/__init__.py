"""Per-sample records: the one door between computing (torch) and studying (no torch)."""
