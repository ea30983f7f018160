"""A soak: figures are reproduced under random kills, and have to come out as they do without any.

    python tests/soak.py --minutes 60 all           as `make soak`
    python tests/soak.py --minutes 2 --scale smoke fig5

The figures are reproduced twice, each time from an empty home. The first time nothing disturbs the command. The second
time it, or one of its workers, gets a random signal every few seconds until the minutes are over, and the same command
is started again whenever it has ended. Then every trace, every picture and every verdict of the two are compared, byte
for byte. The exit code is 1 if one differs, if a run is missing, or if anything ended with a traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from reproduce.errors import SpecError
from reproduce.processes import child_environment
from reproduce.specs.load import list_experiments
from reproduce.specs.resolve import resolve
from reproduce.specs.schema import Scale
from reproduce.store.layout import CHECKED_FILES
from reproduce.store.runs import Store

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
GOES_ON = (0, 1, 75, 130, *(-number for number in SIGNALS))
"""Exit codes after which the same command is started again; 1 is that of a run whose worker was killed."""


class Soak:
    """One soak.

    Args:
        words: arguments of `ofe reproduce`.
        folder: where the two homes are made.
        pause_s: longest time between two signals, in seconds.
    """

    def __init__(self, words: list[str], folder: Path, seed: int, pause_s: float) -> None:
        self.words, self.folder, self.chance, self.pause_s = words, folder, random.Random(seed), pause_s
        self.sent: Counter[str] = Counter()
        self.starts = 0
        self.wrong: list[str] = []

    def start(self, home: Path) -> subprocess.Popen[str]:
        self.starts += 1
        environment = child_environment(OFE_HOME=str(home), OFE_CHECKPOINT_S="1", OFE_DEVICE="cpu")
        command = [sys.executable, "-m", "reproduce", "reproduce", *self.words]
        log = (self.folder / f"{home.name}.log").open("a")
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, text=True, start_new_session=True)

    def undisturbed(self) -> bool:
        """Reproduce the figures once without signals, and return whether that succeeded."""
        code = self.start(self.folder / "quiet").wait()
        if code != 0:
            self.wrong.append(f"the undisturbed command ended with exit code {code}")
        return code == 0

    def disturbed(self, minutes: float) -> None:
        home, end = self.folder / "storm", time.monotonic() + 60 * minutes
        while True:
            process = self.start(home)
            self.tell(home)
            while process.poll() is None:
                if time.monotonic() < end:
                    time.sleep(self.chance.uniform(min(2, self.pause_s), self.pause_s))
                    self.disturb(process, home)
                else:
                    process.wait()
            if process.returncode not in GOES_ON:
                self.wrong.append(f"the command ended with exit code {process.returncode}")
            if time.monotonic() >= end and process.returncode == 0:
                return
            if time.monotonic() >= end + 3600:
                self.wrong.append("the runs were not done an hour after the last signal")
                return
            if process.returncode == 0:  # all is done before the time is over: begin again
                self.compare()
                subprocess.run(["rm", "-r", str(home / "runs"), str(home / "figures")], check=True)

    def tell(self, home: Path) -> None:
        """Print how far the soak is, so that one which is cut short has been counted up to its last start."""
        sealed = sum(folder.state == "sealed" for folder in Store(home).list())
        print(
            f"start {self.starts - 1}: {sum(self.sent.values())} signals so far, {sealed} runs sealed",
            file=sys.stderr,
            flush=True,
        )

    def disturb(self, process: subprocess.Popen[str], home: Path) -> None:
        """Send a random signal to the command, or to one of the workers that its runs name."""
        number = self.chance.choice(SIGNALS)
        workers = [
            progress["pid"]
            for folder in Store(home).list()
            if (progress := folder.progress()) and progress.get("state") == "running" and folder.state == "running"
        ]
        target = self.chance.choice([process.pid, *workers])
        try:
            os.kill(target, number)
        except ProcessLookupError:
            return
        self.sent[f"{number.name} to {'the command' if target == process.pid else 'a worker'}"] += 1

    def compare(self) -> None:
        """Compare traces, pictures and verdicts of the two homes."""
        quiet, storm = self.folder / "quiet", self.folder / "storm"
        for folder in Store(quiet).list():
            twin = storm / "runs" / folder.path.name
            for name in CHECKED_FILES:
                if not (twin / name).is_file() or (twin / name).read_bytes() != (folder.path / name).read_bytes():
                    self.wrong.append(f"{folder.path.name}/{name} differs or is missing")
        for path in sorted((quiet / "figures").rglob("*")):
            twin = storm / path.relative_to(quiet)
            if path.is_file() and (not twin.is_file() or twin.read_bytes() != path.read_bytes()):
                self.wrong.append(f"{path.relative_to(quiet)} differs or is missing")
        for home in (quiet, storm):
            if "Traceback" in (self.folder / f"{home.name}.log").read_text():
                self.wrong.append(f"{home.name}.log has a traceback")
        debris = [str(path.relative_to(storm)) for path in storm.rglob(".*.tmp")]
        self.wrong += [f"{name} was left behind" for name in debris]


def shortened(steps: int | None) -> list[str]:
    """The `--set` changes that make every run of every figure `steps` long; none where they keep their own lengths."""
    if not steps:
        return []
    every = max(1, steps // 4)
    changes = [f"steps={steps}", "stop_after=null", f"probe.every={every}", f"eval.every={every}", "eval.batches=2"]
    # Some recipes give their warm-up as a fraction and others in steps, and the two may not be given together.
    return [*changes, "schedule.warmup_fraction=0", f"schedule.warmup_steps={every}"]


def trained(scale: Scale, changes: list[str]) -> list[str]:
    """The figures and tables that `changes` apply to: all but those that measure models from elsewhere at `scale`."""
    names = []
    for experiment in list_experiments():
        try:
            resolve(experiment, scale, overrides=changes, fingerprint=lambda _: "")
        except SpecError as error:
            print(f"left out: {error}", file=sys.stderr, flush=True)
        else:
            names.append(experiment.id)
    return names


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("figures", nargs="*", default=["all"])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--steps", type=int, help="length of every run, in place of its own")
    parser.add_argument("--pause", type=float, default=12, help="longest time between two signals, in seconds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    changes = shortened(options.steps)
    figures = trained(options.scale, changes) if options.figures == ["all"] else options.figures
    words = [*figures, "--scale", options.scale]
    words += [word for change in changes for word in ("--set", change)]
    with tempfile.TemporaryDirectory(prefix="ofe-soak-") as folder:
        soak = Soak(words, Path(folder), options.seed, options.pause)
        began = time.monotonic()
        if soak.undisturbed():
            print(f"undisturbed: {(time.monotonic() - began) / 60:.1f} minutes", file=sys.stderr, flush=True)
            soak.disturbed(options.minutes)
            soak.compare()
        runs = len(Store(Path(folder) / "quiet").list())
        result = {
            "command": f"ofe reproduce {' '.join(words)}",
            "runs": runs,
            "minutes": round((time.monotonic() - began) / 60, 1),
            "starts": soak.starts - 1,
            "signals": dict(sorted(soak.sent.items())),
            "wrong": sorted(set(soak.wrong)),
        }
        print(json.dumps(result, indent=2))
        if soak.wrong:
            for log in sorted(Path(folder).glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
    return int(bool(soak.wrong))


if __name__ == "__main__":
    sys.exit(main())
