"""The report on run folders."""
