"""The ledger's database: what was chained, what was refused, and how far the stream was read."""
