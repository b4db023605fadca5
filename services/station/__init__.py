"""A station: a receiving bay or a till that goes on while everything else is away."""
