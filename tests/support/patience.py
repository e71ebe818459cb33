"""How long a test waits for what is to happen: long, for machines that have other things to do.

Nothing waits for it to pass; how soon something happens is for benchmarks.
"""

PATIENCE_S = 60.0
