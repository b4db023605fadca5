"""The manufacturer: products and commissioning."""
