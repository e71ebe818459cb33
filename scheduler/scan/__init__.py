"""Bulk migration: inventory, merge, verify, finalize."""
