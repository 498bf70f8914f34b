"""The brokers that keep queues: Redis or Valkey, an embedded Valkey, SQLite, memory.

For others: store, redis, redis_url, redis_memory, embedded.Embedded, sqlite, services, blocking.
"""
