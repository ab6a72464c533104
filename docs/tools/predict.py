"""predict.py - the questions of the chapters."""


def questions(path, run):
    return []
