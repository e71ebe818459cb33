"""The admin side: miss events, rules, scans, failures, health, metrics; each module brings its routes."""
