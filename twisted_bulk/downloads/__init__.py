"""Fetching members: single attempts, which one begins next, and how hosts behave.

For others: probe.Prober, attempt, attempt_runner, attempt_watch, body.BodyLimits, fetch,
fetch_queue, host_backoff, limits, part_fetches, queue_state.Speed, retries.

The door is :mod:`twisted_bulk.download`.
"""
