"""The command ``medtrail``: run a network, import events, scan, trace, verify."""
