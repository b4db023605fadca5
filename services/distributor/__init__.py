"""The distributor: returns of saleable goods."""
