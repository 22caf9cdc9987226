"""Fuzzing of everything that reads bytes from a network or a file.

units.py, datagrams.py, messages.py
               one function for each reader: any bytes may come in, only what its callers expect may come out
targets.py     all of them, with the size of an input and the share of a run
sealing.py     right checksums for any bytes
seeds.py       makes the corpus: sound input of each reader
corpus/        those seeds, and what was found and is fixed (regression-*)
process.py     one target under atheris (libFuzzer), in a process of its own: it may die
__main__.py    all of them: python -m tests.fuzz --executions 100000
test_fuzz.py   corpus and hypothesis through the same functions, in every test run

An execution fails when it raises anything else, takes more than a second of processor time, or lets the process grow
by more than 200 MB.
"""
