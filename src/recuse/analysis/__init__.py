"""Numbers from records: pure functions on per-sample verdicts, without torch."""
