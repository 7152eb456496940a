"""Tables as in docs/results.md, and the record of the last runs.

`benchmarks/records/SCRIPT.json` lists runs, the newest last, of all machines. A run has
the figures that no later one on the same processors has measured again.
"""

import contextlib
import datetime
import json
import pathlib
import shlex
import sys

from harness import machine
from harness.clock import Figure
from harness.workers import CannotRun, Subject, call

RECORDS = pathlib.Path(__file__).parents[1] / "records"
QUICK_NOTE = "--quick is a smoke test: the figures are not measurements.\n"
LEGEND = "In brackets: the range from the first to the third quartile, % of the median."
LEAST_CHANGE = 0.05  # of a median; smaller changes are not listed


class Report:
    """What one run of a script measures: prints it, and compares it with the record."""

    def __init__(self, script, args):
        self._args = args
        self._path = RECORDS / f"{pathlib.Path(script).stem}.json"
        self._rows = {}
        self._run = {
            "date": datetime.date.today().isoformat(),
            "command": shlex.join(
                [pathlib.Path(x).name for x in [script, *sys.argv[1:]]]
            ),
            "machine": machine.description(),
            "versions": versions(args.peer_python),
        }
        names = (f"{name} {version}" for name, version in self._run["versions"].items())
        print(f"{self._run['machine']}; {', '.join(names)}.\n")
        print(QUICK_NOTE if args.quick else f"{LEGEND}\n")

    def add(self, row, figures):
        """Remembers the figures of a row; its name is the same in every run."""
        self._rows[row] = {name: list(figure) for name, figure in figures.items()}

    def finish(self, loads):
        """Prints the load of others and what has changed; writes the record."""
        if self._args.quick:
            return
        if loads:
            print(load_line(loads))
            self._run["load"] = round(max(loads), 2)
        runs = read(self._path)
        known = last_figures(runs, self._run["machine"])
        print_changes(known, self._rows)
        if self._args.record:
            self._path.parent.mkdir(exist_ok=True)
            runs = with_run(runs, self._run | {"rows": self._rows})
            self._path.write_text(dumps(runs))


def versions(peer_python):
    """Of the frameworks of this interpreter and of the peers'."""
    found = {}
    for python in dict.fromkeys((peer_python, sys.executable)):
        subject = Subject("versions", "harness.process:versions", (), python)
        with contextlib.suppress(CannotRun):  # as its subjects will say
            found |= call(subject)
    return found


def load_line(loads):
    line = f"Others used at most {max(loads):.2f} of each core in a round."
    above = sum(load > machine.MUCH for load in loads)
    if above:
        line += f" **In {above} of {len(loads)} rounds it was above {machine.MUCH}.**"
    return line + "\n"


# === The record ===


def read(path):
    return json.loads(path.read_text()) if path.exists() else []


def last_figures(runs, processors):
    """(row, name) -> (figure, date), of the runs on these processors."""
    return {
        (row, name): (Figure(*figure), run["date"])
        for run in runs
        if run["machine"] == processors
        for row, figures in run["rows"].items()
        for name, figure in figures.items()
    }


def with_run(runs, new):
    """The runs and a new one, without the figures that it has measured again."""
    kept = []
    for run in runs:
        if run["machine"] == new["machine"]:
            rows = {
                row: _without(x, new["rows"].get(row, {}))
                for row, x in run["rows"].items()
            }
            run = run | {
                "rows": {row: figures for row, figures in rows.items() if figures}
            }
        kept += [run] if run["rows"] else []
    return [*kept, new]


def _without(figures, others):
    return {name: figure for name, figure in figures.items() if name not in others}


def dumps(runs):
    """JSON with a line for each row."""
    parts = []
    for run in runs:
        rows = (
            f"   {json.dumps(row)}: "
            + json.dumps({k: [round_off(x) for x in v] for k, v in figures.items()})
            for row, figures in run["rows"].items()
        )
        head = json.dumps({k: v for k, v in run.items() if k != "rows"}, indent=1)
        parts.append(head[:-2] + ',\n "rows": {\n' + ",\n".join(rows) + "\n }\n}")
    return "[" + ",\n".join(parts) + "]\n"


def round_off(value):
    return float(f"{value:.4g}")


def print_changes(known, rows):
    """The figures whose quartiles lie apart from those of the record."""
    changed = []
    for row, figures in rows.items():
        for name, now in figures.items():
            then, date = known.get((row, name), (None, None))
            if then and differs(then, Figure(*now)):
                change = f"{now[0] / then.median - 1:+.0%}"
                cells = number(then), number(Figure(*now)), change, date
                changed.append((row, name, *cells))
    measured_before = any((row, name) in known for row in rows for name in rows[row])
    if changed:
        print("Changed since the record:\n")
        print_header(("row", "figure", "then", "now", "change", "then was"))
        for cells in changed:
            print_row(cells)
    elif measured_before:
        print("No figure has changed since the record by more than its spread.")
    else:
        print("The record has no figures of this kind on these processors.")


def differs(then, now):
    apart = now.low > then.high or now.high < then.low
    return apart and abs(now.median - then.median) > LEAST_CHANGE * then.median


# === Tables ===


def print_header(names):
    """Begins a table; rows follow by `print_row`, as they are measured."""
    print_row(names)
    print_row(["---"] * len(names))


def print_row(cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def number(value):
    """Two significant figures below 10, else no decimals; a dash for None.

    A `Figure` has its spread behind it.
    """
    if value is None:
        return "-"
    if isinstance(value, Figure):
        spread = (value.high - value.low) / value.median if value.median else 0
        shown = number(value.median)
        return f"{shown} ({spread:.0%})" if value.high > value.low else shown
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def ratio(value, ours):
    """Of two figures' medians, or None."""
    return value.median / ours.median if value and ours and ours.median else None


def scientific(value):
    """One significant figure, for errors."""
    return "-" if value is None else f"{value:.0e}"
