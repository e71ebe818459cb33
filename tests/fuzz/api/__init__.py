"""`make fuzz-api`: the admin side of a whole installation against what its OpenAPI document says.

Owns the installation that is asked, with something in it of each kind, and how schemathesis asks it, which
has an environment of its own (tests/api.lock). Every operation gets valid and invalid input: no answer is a
failure of ours, each has a status, a type and a shape that the document names, wrong input is refused, and
nobody gets in without a token. Read `__main__`, then `schemathesis.toml` (what no document can say), `hooks`.
"""
