"""config.yaml and what stands beside it: settings, secrets, the data directory.

Must not know what is done with any of it. Read `settings`, then `load`; `problems` words what is wrong,
`quantity` reads sizes and times; `secret_files`, `data_dir`, `admin_token`, `run_settings` and `ports` are
files of this machine.
"""

__all__ = ["admin_token", "data_dir", "load", "ports", "quantity", "run_settings", "secret_files", "settings"]
