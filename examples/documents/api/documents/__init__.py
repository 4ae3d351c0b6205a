"""Documents: a small product in which each organization has its own library."""
