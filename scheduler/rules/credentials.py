"""Credentials in vendor documents: the key id names one of the configuration, the secret is not kept (F27).

A document that carries a secret is accepted when the configuration knows the key id; what is stored, and what
a GET shows, is `***`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.rules.problems import ProblemKind

if TYPE_CHECKING:
    from scheduler.rules.problems import ReadOptions
    from scheduler.rules.written import WrittenRule


def credential_name(key_id: str, field: str, where: WrittenRule, options: ReadOptions) -> str:
    """The configured credential with this access key id (or of this name); empty, with a problem, if none."""
    if not key_id:
        where.refuse(field, ProblemKind.MISSING_FIELD, "an access key id is needed")
        return ""
    if options.credentials is None or key_id in options.credentials:
        return key_id
    for name, known in options.credentials.items():
        if known == key_id:
            return name
    listed = ", ".join(sorted(options.credentials)) or "none"
    where.refuse(
        field,
        ProblemKind.BAD_VALUE,
        f"no credential of origin.credentials has the access key id {key_id!r} (there: {listed}); "
        "secrets of documents are not kept",
    )
    return ""
