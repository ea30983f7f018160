"""What the benchmark compares with what, and the ratio that is aimed for. Never imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Row:
    """One ratio."""

    what: str
    """The side that is measured."""
    against: str
    """The side that it is compared with."""
    at_least: float | None = None
    """The ratio that is aimed for, where larger is better."""
    at_most: float | None = None
    """The ratio that is aimed for, where smaller is better."""
    percent: bool = False
    """Whether the ratio is a share that is told in percent."""
    unit: str | None = None
    """The unit, where an amount is measured and not a ratio."""

    def met(self, ratio: float) -> bool:
        """Whether `ratio` is what is aimed for."""
        return ratio >= self.at_least if self.at_least is not None else ratio <= (self.at_most or 0.0)

    def aim(self) -> str:
        """The aim in words, such as "at least 80 %"."""
        bound = self.at_least if self.at_least is not None else self.at_most
        return f"{'at least' if self.at_least is not None else 'at most'} {self.told(bound or 0.0)}"

    def told(self, ratio: float) -> str:
        """A ratio of this row as people read it: "80 %", "1.50 times" or "0.4 s"."""
        if self.unit is not None:
            return f"{ratio:.2g} {self.unit}"
        return f"{100 * ratio:.0f} %" if self.percent else f"{ratio:.2f} times"


@dataclass(frozen=True)
class Job:
    """Rows that one process measures together."""

    name: str
    """What `ofe bench NAME` takes."""
    device: Device
    minutes: float
    """About how long it takes."""
    rows: dict[str, Row]
    """By the name under which the process reports the ratio."""
    threads: int = 1
    long: bool = False
    """Whether it is measured only when it is named."""


PRODUCTS = "the bare matrix products of a step"
LIBRARY = "GPT-2 of transformers"
"""With eager attention, fused AdamW and our precision."""
BLOCKS = {"pre-ln": "Pre-LN", "pre-srms": "Pre-SRMS", "op": "OP"}


def _steps(size: str, share: float, faster: float) -> dict[str, Row]:
    """Each block's step at one size, against the machine's limit and against the library."""
    rows = {}
    for block, label in BLOCKS.items():
        rows[f"{block} share"] = Row(f"{size} step of {label}", PRODUCTS, at_least=share, percent=True)
        rows[f"{block} faster"] = Row(f"{size} step of {label}", LIBRARY, at_least=faster)
    return rows


JOBS: tuple[Job, ...] = (
    Job("laptop", "cpu", 0.5, _steps("laptop", 0.80, 1.5)),
    Job("laptop-1", "cpu", 0.3, _steps("laptop, one sequence,", 0.65, 1.5)),
    Job(
        "optimizers",
        "cpu",
        0.5,
        {
            "soap": Row("laptop step with SOAP", "the same with AdamW", at_most=1.6),
            "adafactor-rotated": Row("laptop step with rotated AdaFactor", "the same with AdamW", at_most=1.6),
        },
    ),
    Job(
        "probes",
        "cpu",
        0.5,
        {
            "every 100": Row(
                "probes of all layers every 100 steps", "the steps between them", at_most=0.02, percent=True
            ),
            "every 10": Row(
                "probes of all layers every 10 steps", "the steps between them", at_most=0.08, percent=True
            ),
            "moment updates": Row("laptop step with moment updates", "the same without", at_most=1.35),
        },
    ),
    Job(
        "measuring",
        "cpu",
        0.5,
        {"measured": Row("measuring a checkpoint of 6 x 768", "its plain forward passes", at_most=1.15)},
    ),
    Job(
        "memory",
        "cpu",
        0.3,
        {"peak": Row("memory of a laptop run", "weights, optimiser and the activations of a step", at_most=1.2)},
    ),
    Job(
        "jobs",
        "cpu",
        1.0,
        {
            "two at once": Row("two runs at once, a thread each", "one after the other with two threads", at_least=1.6),
            "beside a busy core": Row("one run alone, a core being busy", "the same with one thread", at_least=0.9),
        },
    ),
    Job(
        "commands",
        "cpu",
        1.5,
        {
            "list": Row("ofe list", "the clock", at_most=0.4, unit="s"),
            "show": Row("ofe show fig2", "the clock", at_most=0.4, unit="s"),
            "verify": Row("ofe verify fig2", "the clock", at_most=0.4, unit="s"),
            "redraw": Row("redraw of all figures from the cache", "the clock", at_most=60, unit="s"),
        },
    ),
    Job(
        "training",
        "cpu",
        6.0,
        {
            "outside": Row(
                "time of a laptop run outside its steps", "its time from start to seal", at_most=0.05, percent=True
            )
        },
        long=True,
    ),
    Job(
        "130m",
        "cpu",
        3.0,
        {
            "pre-ln share": Row("130M step, eight sequences, Pre-LN", PRODUCTS, at_least=0.90, percent=True),
            "pre-ln faster": Row("130M step, eight sequences, Pre-LN", LIBRARY, at_least=1.15),
        },
        long=True,
    ),
    Job(
        "130m-cuda",
        "cuda",
        1.0,
        {
            "pre-ln share": Row("130M step, 32 sequences, Pre-LN", PRODUCTS, at_least=0.5, percent=True),
            "pre-ln faster": Row("130M step, 32 sequences, Pre-LN", LIBRARY, at_least=4.0),
            "80,000 steps": Row("80,000 steps of 130M", "the clock", at_most=10, unit="min"),
        },
    ),
    Job(
        "1.2b-cuda",
        "cuda",
        2.0,
        {"pre-ln share": Row("1.2B step, sequences of 512, Pre-LN", PRODUCTS, at_least=0.55, percent=True)},
    ),
    Job(
        "sweep-cuda",
        "cuda",
        1.5,
        {"eight at once": Row("eight laptop runs at once on a GPU", "one after the other", at_least=2.0)},
    ),
)
