"""Header fields as a parser gives them, made into text at once.

Pure. Owns their bounds and their decoding: a call for each of them costs more than all of this.
"""

from __future__ import annotations

from typing import Final

#: Bounds of one field, and of how many there may be.
MAX_FIELD_BYTES: Final = 16 * 1024
MAX_FIELDS: Final = 256


def text_pairs(fields: list[bytes]) -> tuple[tuple[tuple[str, str], ...], bool]:
    """Names and values, given in turn, as pairs of text, and whether all of it is ASCII.

    Bytes that are no UTF-8 become lone surrogates; blanks behind a value do not belong to it.

    Raises:
        ValueError: a null byte is among them, one is too long, or they are too many.
    """
    n_fields = len(fields)
    if n_fields > 2 * MAX_FIELDS:
        raise ValueError("too many headers")
    text = b"\n".join(fields).decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise ValueError("a header with a null byte")
    if len(text) > MAX_FIELD_BYTES // 4 and any(
        len(name) + len(value) > MAX_FIELD_BYTES
        for name, value in zip(fields[::2], fields[1::2], strict=True)
    ):
        raise ValueError("a header that is too long")
    parts = text.split("\n")
    # A folded value has line breaks of its own.
    if "\t" in text or " \n" in text or text[-1:] == " " or len(parts) != n_fields:
        parts = [field.decode("utf-8", "surrogateescape").rstrip(" \t") for field in fields]
    return tuple(zip(parts[::2], parts[1::2], strict=True)), text.isascii()
