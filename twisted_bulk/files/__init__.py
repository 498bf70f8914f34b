"""The file port: sends finished zips at the rate that the throttle gives each client address.

For others: resource.Files, status.FilePort, timer.ThrottleTimer.
"""
