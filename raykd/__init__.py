"""raykd makes a small text classifier out of a large one.

storage/        files, tables and manifests: what every stage reads and writes
cluster/        Ray: tasks, interruptions, what workers tell the driver
text/           text as bytes and as words; the analyzer
tasks/          the data of a task: examples, labels, metrics
corpus/         general text -> units; demo/, text for the quickstart
retrieval/      anchors of a task -> hits, by exact BM25 (bm25/), embeddings (dense/), or both
dedup/          which units say the same
contextualize/  hits -> the contextualized corpus; the random corpus that it is compared with
models/         teacher and student behind one output
objectives/     what the student learns from the teacher, one file a method
training/       teacher, injection, adaptation
evaluation/     predictions, costs; how near a student is to its teacher
augment/        a task's rows -> more of them, with words replaced (TaskDA)
report/         results -> one page
workflow/       recipe/, a run as one typed object; checks/ before the first stage; the stages in
                order; a search of settings
cli/            the command line

Below them: config.py, errors.py, progress.py.
"""

__version__ = "0.2.0"
