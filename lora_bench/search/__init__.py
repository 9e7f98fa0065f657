"""Studies: what is asked, where the points come from, and the controller that carries them out.

question.py    arms, seeds, objectives and constraints, from the command line and `sweeps/*.yaml` (studyfile.py)
space.py       dimensions in Hydra's sweep syntax; compose.py makes runs of their points
grid.py        listed points in a fixed order, without Optuna
asking.py      points that Optuna draws; study.py, samplers.py and storage.py are the door to it
controller.py  slots, retries (retry.py), pruning (pruner.py, pruning.py), hangs (watch.py), budget (clock.py)
studydir.py    the study's folder and its lock; trials.jsonl and the run directories are the truth
overview.py    what was found, for summary.py, view.py and commands.py; influence.py: which parameters matter
recorded.py    the question as its folder has it; optuna_view.py makes of it what optuna-dashboard shows (mirror.py)
address.py     `best:STUDY` and `STUDY:TRIAL`; hints.py: commands that are printed to be copied
"""
