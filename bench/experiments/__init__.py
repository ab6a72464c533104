"""experiments - one file for each family: what is measured, predicted, checked and told.

Does not: draw, or read /proc and load generators; lib/ does. It imports from lib/ and report/.
"""
