"""Runs one organisation's distributor process: ``python -m services.distributor``, settings from the environment."""

from services.distributor.bootstrap import main

if __name__ == "__main__":
    main()
