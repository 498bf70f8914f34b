"""Callbacks: progress while a batch runs, and the last one until it arrives.

For others: notifier, last_callbacks, sender.Sender, signer.load_signer.
"""
