"""How fast trainings are on this machine, beside what the machine could do and what people would use instead.

    rows        what is compared with what, and the ratio that is aimed for
    contenders  training steps of this package, of the library's GPT-2, and the bare matrix products of a step
    measure     one row, in a process of its own:  python -m reproduce.bench.measure laptop
    results     all rows of this machine, one process after the other, kept in OFE_HOME/bench.json

Every row is a ratio. Its two sides alternate in one process or in two runs of the same minute, because the speed of a
machine that others use too changes from minute to minute. A time that was stored is never compared with.
"""
