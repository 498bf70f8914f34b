"""Workers: they take jobs from a queue and run a function on each.

For others: consumer.Consumer, registry.Functions, runner.Runner, task, slots, acks.adopt.
"""
