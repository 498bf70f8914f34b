"""Calls of Python functions as jobs: their arguments, who publishes them, calls at fixed times.

For others: arguments, cron, declarations, publisher, sync_publisher.SyncPublisher.
"""
