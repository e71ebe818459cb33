"""Miss events in the forms that senders really use, and what becomes of each. Parsing is PURE."""
