"""Kill `dtcwsi bench` at random moments, start it again, and compare its tables with those of an undisturbed run.

    python benchmarks/bench_kills.py table2 table4 --kills 20 --work /tmp/kills [-- --cohort CSV --features DIR ...]

Without options after --, the tiny cohort of --quick. Each kill is SIGKILL to the whole process group; when a table is
finished before all kills are done, the next round begins in a fresh folder. Every column of the CSV is compared but
milliseconds, seconds, memory and what follows from them.
"""

import argparse
import csv
import random
import subprocess
import sys
import time
from pathlib import Path

from crash_safety import run
from provenance import provenance, save

TIMED = ("_ms", "_gib", "_s", "speedup")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+")
    parser.add_argument("--kills", type=int, default=20, help="of each table")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results/bench_kills.json"))
    known, rest = sys.argv[1:], ["--quick"]
    if "--" in known:
        known, rest = known[: known.index("--")], known[known.index("--") + 1 :]
    asked = parser.parse_args(known)
    chance, found = random.Random(asked.seed), {}
    for table in asked.tables:
        found[table] = disturbed(table, rest, asked.work / table, asked.kills, chance)
        print(table, {name: value for name, value in found[table].items() if name != "kill_seconds"}, flush=True)
    settings = {"options": rest, "kills": asked.kills, "seed": asked.seed}
    save(asked.out, {**provenance(**settings), "tables": found})


def disturbed(table: str, options: list[str], work: Path, kills: int, chance: random.Random) -> dict:
    """Compare a table's undisturbed rows with those of killed runs."""
    command = [sys.executable, "-m", "dtcwsi", "bench", table, *options]
    began = time.perf_counter()
    finish(command, work / "calm")
    longest = time.perf_counter() - began
    calm, moments, rounds, differ = rows_of(work / "calm", table), [], 1, 0
    while len(moments) < kills:
        moment = chance.uniform(0, longest)
        out = work / f"round{rounds}"
        if run(command, out, moment):
            moments.append(round(moment, 1))
        else:
            differ += rows_of(out, table) != calm
            rounds += 1
    finish(command, work / f"round{rounds}")
    differ += rows_of(work / f"round{rounds}", table) != calm
    left = sum(".part-" in path.name for path in work.rglob("*"))
    return {
        "rows": len(calm),
        "columns_compared": len(calm[0]),
        "calm_seconds": longest,
        "kills": len(moments),
        "kill_seconds": moments,
        "rounds": rounds,
        "rounds_that_differ": differ,
        "partial_files_left": left,
    }


def finish(command: list[str], out: Path) -> None:
    done = subprocess.run([*command, "--out", str(out)], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command} ended with status {done.returncode}:\n{done.stderr}")


def rows_of(out: Path, table: str) -> list[dict[str, str]]:
    """Read a table's rows without what is timed."""
    with (out / f"{table}.csv").open(newline="") as file:
        return [
            {name: value for name, value in row.items() if not name.removesuffix("_std").endswith(TIMED)}
            for row in csv.DictReader(file)
        ]


if __name__ == "__main__":
    main()
