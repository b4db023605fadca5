"""Runs one station: ``python -m services.station``, settings from the environment."""

from services.station.bootstrap import main

if __name__ == "__main__":
    main()
