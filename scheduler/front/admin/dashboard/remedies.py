"""What to do about each reason for which a key is listed. PURE.

Owns the sentences; docs/operations.md tells them at length, a test holds that no reason is without one.
"""

from __future__ import annotations

from typing import Final

_ORIGIN = "Look at the origin (Origins, or `ferryman origins probe URL`), mend it, retry."

#: Reason of a listed failure -> what to do.
REMEDIES: Final[dict[str, str]] = {
    "address_refused": "The host leads to an address that is not allowed. Allow it in "
    "origin.allow_networks, or "
    "mend the rule.",
    "budget_exhausted": "The origin's budget was spent for too long. Raise it, or slow the scan; then retry.",
    "control_character": "No list, log or manifest can name such a key, so it is served from the origin and "
    "stored by no way in. Rename it at the origin, or waive it.",
    "credential_missing": "The rule names a credential that config.yaml does not have. Add it, retry.",
    "digest_mismatch": "The bytes are not what the origin's own digest says. Mend the object at the origin, "
    "retry.",
    "key_not_representable": "The store cannot hold this key beside another one. Rename it at the origin, or "
    "waive it.",
    "listing_mismatch": "The object is not what the inventory promised. Make the inventory anew, or retry"
    " without"
    " its digests.",
    "no_length": "The origin gives neither length nor last chunk, so nobody knows what is whole. "
    "`store: {accept_close_delimited: true}` takes it all the same.",
    "no_rule": "No rule in force pulls this key. Add one for its prefix, or waive it.",
    "origin_failed": _ORIGIN,
    "origin_loop": "The origin's name leads back here. Give the origin a name of its own.",
    "origin_malformed": "The answer is no HTTP that can be believed. Mend the origin, retry.",
    "origin_status": _ORIGIN,
    "origin_throttled": "The origin asks to be left alone. Lower its budget, retry later.",
    "origin_timeout": _ORIGIN,
    "origin_truncated": "The body ends short. Mend the object at the origin, retry.",
    "origin_unreachable": "No connection: name, network or TLS. Mend it, retry.",
    "origins_exhausted": "Every candidate failed; the attempts say how. Mend one, retry.",
    "partial_answer": "A part came where the whole was asked for. Mend the origin or the cache before it, "
    "retry.",
    "redirect_refused": "A redirect that may not be followed: loop, too many hops, or from https to http."
    " Mend "
    "it, or allow it in the rule.",
    "reserved_key": "The key begins with .ferryman/, which is never served. Rename it at the origin, or waive"
    " it.",
    "soft_404": "The answer looks like the origin's error page. Mend it, or waive it.",
    "store_corrupted": "The store says it holds other bytes than were sent. Look at the store, retry.",
    "store_denied": "The store refuses our key. Look at its rights (`ferryman doctor`), retry.",
    "store_failed": "Look at the store (`ferryman doctor`), retry.",
    "store_rejected": "The store refused the object; the message has its code. Mend it, retry.",
    "store_throttled": "The store asks for less. Retry later, with fewer workers.",
    "store_unavailable": "The store did not answer. Retry when it does.",
    "tombstones_unknown": "Redis did not answer, and keys of this bucket were deleted: nobody could say "
    "whether this is one of them. Retry when it does.",
    "too_large": "Over max_object_bytes of the rule. Raise it, or waive it.",
    "transfer_failed": "The message says what; retry.",
}
#: For a reason that is not listed above.
OTHER: Final = "Show the key for its attempts; `ferryman failures show BUCKET KEY`."
