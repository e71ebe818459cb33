"""What clients and operators connect to: the object gateway and the admin API.

The gateway must not know logs, events or scans. Read `gateway` (which way a request takes), `hit` (the store
has it), `miss` (it has not), `pull` (fetching for client and store at once), `parts` (what handlers share),
`stats`; `server` runs it. `http` reads requests and writes answers, `auth` tells who signed, `s3` is for S3
clients, `rules_api` is the vendors' rule API, `admin` the other port.
"""

__all__ = ["server"]
