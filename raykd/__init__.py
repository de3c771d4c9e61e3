"""raykd makes a small text classifier out of a large one.

corpus/            general text -> units
retrieval/         anchors of a task -> hits, by exact BM25
dedup/             which units say the same
contextualize.py   hits -> the contextualized corpus
models/            teacher and student behind one output
objectives/        what the student learns from the teacher, one file a method
training/          teacher, injection, adaptation
evaluation/        tasks, metrics, predictions
recipe.py          a whole run as one typed object
tuning.py          a recipe with a search space -> the best recipe
report.py          results -> one page
cli.py             the stages in order
"""

__version__ = "0.1.0"
