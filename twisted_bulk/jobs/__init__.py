"""The queue: its protocol, its state machine for jobs and groups of jobs, what nodes share.

For others: model, group_model, group_index, bulk, protocol.JobQueue, scripted, scripts,
groups.GroupQueue, cluster, stats, quiet_hours.

``lua/`` has a script for each step of the state machine.
"""
