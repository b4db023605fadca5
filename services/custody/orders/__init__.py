"""Orders: business documents between two parties, and what they and the goods say together."""
