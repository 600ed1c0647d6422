"""The page of an audit: one network, what it is good for, and what to type next."""
