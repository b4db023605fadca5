"""The pharmacy: handing packs to patients."""
