"""Runs one organisation's pharmacy process: ``python -m services.pharmacy``, settings from the environment."""

from services.pharmacy.bootstrap import main

if __name__ == "__main__":
    main()
