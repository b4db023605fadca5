"""Receiving: deliveries, their scans, what is reconciled with what was advised, and what comes of it later."""
