"""Settings, the command line, and the only place where all parts are put together.

For others: options.Options, settings.Settings, wiring.Wiring, daemon.Daemon, worker_processes.
"""
