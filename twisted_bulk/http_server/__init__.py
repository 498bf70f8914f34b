"""What both ports share: bounded requests, connections, who the client is, problems.

Knows nothing of batches.

For others: site, problem, connection_limits, connection_metrics, clients.Clients, klein_resource,
preconditions.
"""
