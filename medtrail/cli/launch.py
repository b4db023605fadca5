"""Becomes another program that dies with its parent: ``python -m medtrail.cli.launch PARENT_PID PROGRAM ARGUMENT…``.

PR_SET_PDEATHSIG survives execve, so a supervisor that is killed leaves no orphans, be they Python or not.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for SIGTERM at the parent's death, then become the program."""
    parent, *command = sys.argv[1:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # The parent may have died before the call above: then nobody would send the signal.
    if os.getppid() != int(parent):
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606  # the supervisor's own fixed argument list, no shell


if __name__ == "__main__":
    main()
