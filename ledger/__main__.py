"""``python -m ledger serve|fsck|rebuild``."""

import sys

from ledger.commands import main
from medtrail.runtime.logging import configure_logging

# Of the commands; serve sets the level that its settings ask for.
configure_logging(process="ledger", level="warning")
sys.exit(main())
