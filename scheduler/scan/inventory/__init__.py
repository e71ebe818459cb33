"""Inventory sources, one a file; each yields entries in byte order of the key."""
