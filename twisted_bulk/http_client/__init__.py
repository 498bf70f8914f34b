"""The guarded HTTP client that everything outgoing uses.

For others: agent, guard.Guard, pool, response, url, proxy_url, resolver.OWNER.
"""
