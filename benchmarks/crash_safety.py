"""Kill `dtcwsi extract` at random moments, start it again, and compare with an undisturbed run.

    python benchmarks/crash_safety.py SLIDES... --kills 50 --out /tmp/crash --encoder efficientnet-lite0

Each kill is SIGKILL to the whole process group, workers included. When a folder is finished before all kills are done,
the next round begins in a fresh one. After every kill each finished feature file is looked at: it must still be there,
be the same file (inode and time), and have the bytes of the undisturbed run.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dtcwsi.errors import FeaturesError
from dtcwsi.store.features import read_features
from provenance import provenance, save

Mark = tuple[int, int]


@dataclass
class Findings:
    """What the kills did to finished feature files; all but the first four should be 0."""

    kills: int = 0
    kills_before_any_file: int = 0
    rounds: int = 0
    kill_seconds: list[float] = field(default_factory=list)
    lost: int = 0
    redone: int = 0
    corrupt: int = 0
    partial_files_left: int = 0
    failed_runs: int = 0
    rounds_that_differ: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", type=Path, nargs="+", help="slide files or folders")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs; emptied first")
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--longest", type=float, help="most seconds before a kill; those of an undisturbed run without")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="JSON to write; OUT/crash_safety.json without")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    command = [sys.executable, "-m", "dtcwsi", "extract", *map(str, arguments.slides)]
    command += ["--encoder", arguments.encoder, "--workers", str(arguments.workers)]
    calm, calm_s = undisturbed(command, arguments.out / "calm")
    print(f"undisturbed: {len(calm)} feature files in {calm_s:.1f} s")
    longest_s = arguments.longest or calm_s
    findings = disturb(command, arguments.out, calm, longest_s, arguments.kills, random.Random(arguments.seed))
    settings = {name: value for name, value in vars(arguments).items() if isinstance(value, str | int | float)}
    content = {**provenance(**settings), "slides": len(calm), "calm_seconds": calm_s, "findings": asdict(findings)}
    save(arguments.json or arguments.out / "crash_safety.json", content)
    print({name: value for name, value in asdict(findings).items() if name != "kill_seconds"})


def undisturbed(command: list[str], out: Path) -> tuple[dict[str, bytes], float]:
    start = time.perf_counter()
    finished = subprocess.run([*command, "--out", str(out)], check=False, capture_output=True, text=True)
    if finished.returncode:
        sys.exit(f"the undisturbed run ended with status {finished.returncode}:\n{finished.stderr}")
    return contents(out), time.perf_counter() - start


def disturb(
    command: list[str], folder: Path, calm: dict[str, bytes], longest_s: float, kills: int, chance: random.Random
) -> Findings:
    found, known = Findings(rounds=1), {}
    while found.kills < kills:
        out = folder / f"round{found.rounds}"
        moment_s = chance.uniform(0, longest_s)
        killed = run(command, out, moment_s)
        known = inspect(out, known, calm, found)
        if killed:
            found.kills += 1
            found.kills_before_any_file += not known
            found.kill_seconds.append(round(moment_s, 2))
            print(f"kill {found.kills} after {moment_s:.1f} s: {len(known)} of {len(calm)} files finished")
        elif len(known) == len(calm):
            conclude(command, out, known, calm, found)
            found.rounds, known = found.rounds + 1, {}
        else:
            found.failed_runs += 1
            break
    conclude(command, folder / f"round{found.rounds}", known, calm, found)
    return found


def run(command: list[str], out: Path, moment_s: float | None) -> bool:
    """Run the command; kill its process group after some seconds unless None.  Returns: whether it was killed."""
    process = subprocess.Popen(
        [*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(moment_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def conclude(command: list[str], out: Path, known: dict[str, Mark], calm: dict[str, bytes], found: Findings) -> None:
    """Let the round come to its end and compare it with the undisturbed run."""
    last = subprocess.run([*command, "--out", str(out)], check=False, capture_output=True, text=True)
    if last.returncode:
        found.failed_runs += 1
        print(last.stderr)
    inspect(out, known, calm, found)
    found.rounds_that_differ += contents(out) != calm
    found.partial_files_left += sum(".part-" in path.name for path in out.rglob("*"))


def inspect(out: Path, known: dict[str, Mark], calm: dict[str, bytes], found: Findings) -> dict[str, Mark]:
    """Count what became of the files that were finished before, and of those that look finished now."""
    now = {str(path.relative_to(out)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in features(out)}
    found.lost += sum(name not in now for name in known)
    found.redone += sum(name in now and now[name] != mark for name, mark in known.items())
    found.corrupt += sum(not whole(out / name, calm[name]) for name in now if now[name] != known.get(name))
    return now


def whole(path: Path, expected: bytes) -> bool:
    try:
        read_features(path)
    except FeaturesError:
        return False
    return path.read_bytes() == expected


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in features(out)}


def features(out: Path) -> list[Path]:
    return sorted(path for path in out.glob("features/*/*.h5") if not path.name.startswith("."))


if __name__ == "__main__":
    main()
