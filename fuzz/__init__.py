"""Coverage-guided fuzzing of whatever reads what a stranger wrote: `python -m fuzz handshake -max_total_time=60`.

Not part of the package. It needs atheris, which has wheels for Linux only. The tests have the same properties, with
inputs of Hypothesis.
"""
