"""Rule sets: the model, matching and planning; their formats each in a room.

Must not know who asks. Read `model`, `matching`, `planning`, `header_policy`, `keys`, `hosts`, `validate`,
`write_back`, `lint`: all pure. `formats` tells one document format from another, `encodings` how its bytes
are written; an element of a COS document gets its meaning in `cos`, of an OSS or S3 one in `oss`, a field of
YAML in `yaml`. `problems` are what is wrong with one, `xml` and `xml_tree` what both XML dialects share.
`in_force` is where rule sets live, `trying` what would happen.
"""

__all__ = [
    "encodings",
    "formats",
    "hosts",
    "keys",
    "lint",
    "matching",
    "model",
    "planning",
    "problems",
    "write_back",
    "xml_tree",
]
