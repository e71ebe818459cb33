"""The misbehaving origin: a product tool for rehearsals, and the counterpart of the fault tests."""
