"""What moves and when: rules, misses, scans, the gateway, the command line.

`scheduler` imports `workers`, never back. Read `rules`, then `dispatch` (an event becomes a message), then
the ways in (`logs`, `intake`, `front`, `scan`). `runtime` wires a process, `machine` starts and watches
processes, `config` reads config.yaml, `commands` are the command line (`cli` joins them), `doctor` and
`status` look; `chaos` and `demo` are a misbehaving origin and the demonstration.
"""

import workers  # noqa: F401 -- before anything imports structlog
