"""EPCIS 2.0 (ISO/IEC 19987:2024): the event model, its JSON-LD and XML forms, and the CBV event hash."""
