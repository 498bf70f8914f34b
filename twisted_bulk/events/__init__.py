"""Server-sent events: what has changed, told to those who listen.

For others: event.Event, event_stream.EventStream, feed.Feed.
"""
