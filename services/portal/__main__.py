"""Runs the portal of one organisation: ``python -m services.portal``, settings from the environment."""

from services.portal.bootstrap import main

if __name__ == "__main__":
    main()
