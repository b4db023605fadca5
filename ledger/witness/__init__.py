"""A witness: it signs what it has seen of a log, and only what follows from what it saw before."""
