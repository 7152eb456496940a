"""What a training step costs beyond its graph.

    python benchmarks/step_overhead.py

A network of one neuron, whose graph takes little time, is trained by the trainer of
`trainers/video.py`. Its compiled step is also called alone, on one batch, not reading
its results. The difference is the time of the host: input, results, progress, signals.
Figures are of loops of 100 steps. The clock: harness/clock.py.
"""

from harness.clock import Clock
from harness.options import clock_parser, parse
from harness.report import Report, number, print_header, print_row
from harness.workers import Subject

SUBJECTS = {"graph": "its graph alone", "trainer": "the trainer"}


def main():
    parser = clock_parser(__doc__, rounds=15, seconds=60, memory=False)
    args = parse(parser, {})
    report, clock = Report(__file__, args), Clock(args)
    print_header(("100 steps", "ms", "CPU ms"))
    measured = clock.measure(
        {
            key: Subject(name, "harness.tiny_step:make", (key,))
            for key, name in SUBJECTS.items()
        }
    )
    for key, (figures, _) in measured.items():
        report.add(key, figures)
        print_row((SUBJECTS[key], *map(number, figures.values())))
    report.finish(clock.loads)


if __name__ == "__main__":
    main()
