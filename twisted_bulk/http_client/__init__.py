"""The guarded HTTP client of all outgoing requests.

For others: agent, guard.Guard, pool.MAX_IDLE, connection.StaleConnection, discard.drop, ending,
response, url, proxy, resolver.OWNER.
"""
