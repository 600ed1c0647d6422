"""A page as a value: blocks, their values, and how they become HTML."""
