"""Load that lasts: the traffic of a site, samples of what may grow under it, and what growth is too much."""
