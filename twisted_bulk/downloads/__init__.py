"""Members on their way here: one attempt, whose turn it is, and how hosts behave.

For others: attempt, body.BodyLimits, crew, limits, lanes, watch.Watch, host_backoff.

The door is :mod:`twisted_bulk.download`.
"""
