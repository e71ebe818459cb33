"""The control plane: decides what moves and when, and hands it to `workers`."""
