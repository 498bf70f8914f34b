"""Connections to hosts: names are looked up, addresses and certificates checked. Knows no HTTP.

For others: endpoints, guard, lookup, proxy, resolver, tls.
"""
