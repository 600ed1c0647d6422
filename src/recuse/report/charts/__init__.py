"""Charts: marks, labels, looks, and the plots made of them."""
