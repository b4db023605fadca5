"""``python -m ledger serve|fsck|rebuild``."""

import sys

from ledger.commands import main
from medtrail.runtime.logging import configure_logging

# The examiners' processes import this module too, and must not begin to serve.
if __name__ == "__main__":
    # Of the commands; serve sets the level that its settings ask for.
    configure_logging(process="ledger", level="warning")
    sys.exit(main())
