"""Tests, and what must stand before any of their modules is imported."""

import os

# gRPC's core reads this when it is loaded. Where a process has gRPC at work, its fork handlers now and then crash a
# child before it becomes the program that it should run; PostgreSQL's wheel forks like that when it is used by root.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
