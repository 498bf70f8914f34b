"""The guarded HTTP client of all outgoing requests.

For others: agent, codings, content, pool.MAX_IDLE, connection.StaleConnection, discard.drop,
headers.spelled, parser.facts_of, redirects, response.
"""
