"""``python -m medtrail.cli`` is ``medtrail``."""

from medtrail.cli.main import main

main()
