"""Runs one organisation's manufacturer process: ``python -m services.manufacturer``, settings from the environment."""

from services.manufacturer.bootstrap import main

if __name__ == "__main__":
    main()
