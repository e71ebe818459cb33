"""Benchmarks of scans: `here` runs one in a fresh process, `beside` what it is compared with."""
