"""`/v1/openapi.json`: every `/v1` route of this process, described as OpenAPI 3.1.

Owns the words and shapes; which routes there are is read from the application itself, so that one which
nobody described is seen (`tests/unit/scheduler/front/admin/test_openapi.py` fails, and the document says so).
To describe a new route:

1. Add an `Operation` to a table of `operations` under its method and path, as `Route` has them: a summary,
   parameters of the query and of headers (those of the path come by themselves; describe one that may not be
   any text), body, answers, refusals. `make fuzz-api` sends what a type allows: what is always refused does
   not belong in it.
2. A JSON answer or body has a type: a dataclass or pydantic model of the code where there is one, else one in
   `shapes`. Its schema is made of its fields and their types; an example beside it is checked against it.
3. `tests/e2e/scan/test_described.py` compares real answers with the document: ask for the new one there.

Must not know how anything is done. Read `operation` (what is said of a route), `shapes`, `operations` (the
tables), then `document` (how it becomes OpenAPI).
"""

__all__ = ["document"]
