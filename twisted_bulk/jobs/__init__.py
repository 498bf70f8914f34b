"""The queue's protocol and state machine: jobs, groups of jobs, and what nodes have in common.

For others: model, group_model, protocol.JobQueue, scripted, scripts, groups.GroupQueue, cluster,
publisher, stats, quiet_hours.

``lua/`` has a script for each step of the state machine.
"""
