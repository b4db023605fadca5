"""Recalls: standing rules by the owner of the prefix, known to all."""
