"""Miss events out of access logs."""
