"""Distillation of a fine-tuned text classifier into a small one.

storage/        files, tables and manifests that every stage reads and writes
cluster/        Ray: connection, tasks, preemption, progress of workers
text/           characters, words, and the analyzer
tasks/          task data: examples, labels, metrics
corpus/         general text -> units; demo/, text for the quickstart
retrieval/      queries of a task -> hits, by exact BM25 (bm25/), embeddings (dense/), or both
dedup/          exact and near duplicates
contextualize/  hits -> the contextualized corpus; the random corpus as its baseline
models/         teacher and student with a common output type
objectives/     distillation methods, one file per method
training/       teacher, injection, adaptation
evaluation/     predictions, costs, and comparison of student and teacher
augment/        data augmentation by word replacement (TaskDA)
report/         results -> one HTML page
workflow/       recipe/, the typed recipe; checks/, checks before the first stage; the stages of a
                run; hyper-parameter tuning
cli/            command line

Shared by all: config.py, errors.py, progress.py.
"""

__version__ = "0.2.0"
