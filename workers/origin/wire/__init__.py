"""One request to one host: connection, head, redirects by hand, body.

Must not know candidates, budgets or what a body should be. Read `client`, then `redirects`, `headers`,
`credentials`; `connector`, `guard` and `addresses` decide what may be connected to, `dial` how long it
may take; `response` and `body` hold an answer while its bytes come.
"""

__all__ = ["addresses", "body", "client", "connector", "guard", "headers", "redirects", "response"]
