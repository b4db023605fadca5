"""``python -m ledger serve|fsck|rebuild``."""

import sys

from ledger.commands import main

sys.exit(main())
