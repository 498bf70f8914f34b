"""Members on their way here: one attempt, whose turn it is, and how hosts behave.

For others: attempt, body.BodyLimits, part_fetches, limits, fetch_queue, attempt_watch.AttemptWatch,
host_backoff.

The door is :mod:`twisted_bulk.download`.
"""
