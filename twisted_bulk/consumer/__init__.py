"""Running any function on the jobs of a queue.

For others: consumer.Consumer, runner.Runner, task, slots, acks.adopt.
"""
