"""A node: its settings, its command line, its processes; puts all other parts together.

For others: options.Options, settings.Settings, wiring.Wiring, port_roles, worker_role, child_roles,
values.Role, daemon.
"""
