"""Reports of failed tests on their way from a test process to the one that prints them."""

from __future__ import annotations


def sendable(value: object) -> object:
    """The same with nothing that cannot be sent: half a surrogate in a message would end the whole run."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {sendable(key): sendable(item) for key, item in value.items()}
        case list() | tuple():
            return type(value)(map(sendable, value))
        case None | bool() | int() | float() | bytes():
            return value
        case _:
            return repr(value)
