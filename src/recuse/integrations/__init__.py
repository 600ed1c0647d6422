"""One file a foreign library; each is imported only when it is used."""
