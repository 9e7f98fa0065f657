"""What can be done with trained runs: merged, composed, exchanged, timed, exported and imported.

`lookup` and `trained` find a run and look it through, without torch. Nothing is imported here, so that the command line
can name the commands at once.
"""
