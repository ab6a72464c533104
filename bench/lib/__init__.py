"""lib - what every experiment works with: servers and generators, what is read off, the machine.

Does not: know an experiment, or how a report looks. A module here imports from this room only.
"""
