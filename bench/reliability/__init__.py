"""What the commands do with malformed scenes, checkpoints and options: `python -m bench.reliability`.

Every case damages a copy of a good input by a rule with a fixed seed, or writes a bad one, and runs a command on it in
this process. A case holds if the command refuses it, with one line that begins with "error: ", no traceback and nothing
written; or if it succeeds because what was read is identical to the undamaged input. Bytes of formats without checksums
can change without a trace: those cases may also succeed with another value, and are counted apart.
"""
