"""Server-sent events: what has changed, told to those who listen.

For others: event, event_stream.EventStream, feed.
"""
