"""The data plane: everything needed to move one object. Knows nothing of rules, events, logs or scans."""

__version__ = "0.1.0"
