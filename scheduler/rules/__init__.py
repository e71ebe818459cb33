"""Rule sets: the model, its document formats, matching and planning."""
