"""The verbs of the Falsified Medicines Directive: verify, supply, decommission, undo."""
