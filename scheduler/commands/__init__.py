"""The commands of `ferryman`, one module each; `scheduler.cli` finds them by name.

Arguments in, text or JSON out; how anything is done is elsewhere.
"""

__all__ = ["command_line"]
