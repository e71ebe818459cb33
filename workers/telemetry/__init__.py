"""What a process says of itself: log lines, and metrics over all processes of a machine.

Must not know what is moved. `log` first; `metrics` names every figure, `metric_types` and `metric_files` make
them sums over processes.
"""

__all__ = ["log", "metric_files", "metric_types", "metrics"]
