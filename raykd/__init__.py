"""raykd makes a small text classifier out of a large one.

corpus/            general text -> units
retrieval/         anchors of a task -> hits, by exact BM25, embeddings, or both
dedup/             which units say the same, or say what is to be examined
contextualize.py   hits -> the contextualized corpus; random_corpus.py, what it is compared with
models/            teacher and student behind one output
objectives/        what the student learns from the teacher, one file a method
search_model.py    the encoder of a search by embeddings
training/          teacher, injection, adaptation
evaluation/        tasks, metrics, predictions; analysis.py, how near a student is to its teacher
augment/           a task's rows -> more of them, with words replaced (TaskDA)
recipe.py          a whole run as one typed object; run.py, what lies where in its directory
stages.py          the stages in order; preflight.py, what is checked before the first
tuning.py          a recipe with a search space -> trials; best.py, the one to take
collect.py         a run directory -> results.py, everything found out; teacher_check.py, a stop
report/            results -> one page
cli.py             the command line

Below them: config.py, schemas.py, manifest.py, tables.py, progress.py; Ray: cluster.py, board.py.
"""

__version__ = "0.2.0"
