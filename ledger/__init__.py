"""Those who keep events: the ledger's process, from the exchange to proven answers.

Ingest reads the EVENTS stream by sequence number, the sequencer chains what holds into one append-only log, the
publisher signs checkpoints and writes tiles, followers send receipts and keep projections, and the servicers answer.
"""
