"""Where a queue is kept: a Redis or Valkey, one that we start ourselves, SQLite, memory.

For others: store, redis, redis_url, redis_memory, embedded.Embedded, sqlite.
"""
