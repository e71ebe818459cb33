"""Origins: where objects still live. Choosing one, asking it, and not being fooled by it."""
