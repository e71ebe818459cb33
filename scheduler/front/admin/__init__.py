"""The admin side: miss events, rules, scans, failures, health, metrics; each module brings its routes.

`app` first; it finds the others.
"""

__all__ = ["app", "standalone"]
