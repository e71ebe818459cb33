"""The rules of config.yaml and JSON, the whole model. PURE.

`document` is the codec; `read` and `origin` give fields their meaning, `values`, `fields` and `tree` the
parts.
"""

__all__ = ["document"]
