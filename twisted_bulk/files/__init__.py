"""The file port: finished zips at the rate that :mod:`twisted_bulk.throttle` gives each client.

For others: resource.Files, status.FilePort, timer.ThrottleTimer.
"""
