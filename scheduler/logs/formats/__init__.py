"""A line of a gateway's log as a record: one file a family of formats. PURE."""
