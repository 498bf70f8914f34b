"""Callbacks: progress while a batch runs, and the last one until it arrives.

For others: notifier, sender.Poster, signer.load_signer.
"""
