"""The door for other software of the organisation: EPCIS 2.0 over REST, answered from an index of its own."""
