"""The report on the paper's published logs."""
