"""The HTTP server of both ports: connections, bounded requests, clients, errors as problems.

For others: site, request, streamed_body, klein_resource, problem, connection_limits, access_log,
client_address.Clients, preconditions.
"""
