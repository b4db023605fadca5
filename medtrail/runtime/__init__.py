"""What every process runs on: settings, key folders, TLS, tokens, gRPC, NATS, SQL, the outbox and the registry replica.

Nothing here decides what is true; it carries what the evidence modules decide.
"""
