"""The paper's published logs, its printed cells and points, and what they come to."""
