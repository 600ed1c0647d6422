"""A system behind HTTP (extra ``serve``): batches, a time limit inside, counters, a page."""
