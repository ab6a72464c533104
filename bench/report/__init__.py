"""report - results to words, tables, pictures, and a page.

Does not: measure. A module here imports from this room only, so that a saved run can be drawn
anew where nothing can be measured.
"""
