"""Exceptions: cases, what partners say to each other about them, and what their resolution does to goods."""
