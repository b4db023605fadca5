"""A simulated network with known truth: the real services are driven through it, and their answers compared."""
