"""Those who make events: one process an organisation."""
