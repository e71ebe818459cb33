"""The commands of `ferryman`, one module each; `scheduler.cli` finds them by name."""
