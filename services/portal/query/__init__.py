"""SimpleEventQuery: parsed into a small tree, then SQL over the index."""
