"""Claims are data too: a quantity, a comparator, a bound per scale; judging one gives a `Verdict`."""

from reproduce.claims.verdict import Verdict, evaluate, exit_code, judge

__all__ = ["Verdict", "evaluate", "exit_code", "judge"]
