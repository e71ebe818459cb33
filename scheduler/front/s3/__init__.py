"""The S3 front: a request that is signed with a client's key, answered as the store would.

Owns what an S3 client may do and how its request reaches the store: verified, signed anew, streamed both
ways. Must not know how an object is pulled: a plain read of a missing key is handed back to the gateway. Read
`operation` (what is asked for), `permission`, `payload` and `chunked` (checked while it streams), `headers`,
`forwarding`, `reading`, the rooms `listing` (what is ours stays hidden) and `form`, `tombstones`, then
`calls`, `front`.
"""

__all__ = ["front"]
