"""Verification of product identifiers between trading partners: answering, asking, and the records of both."""
