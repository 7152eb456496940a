"""Markdown tables, ready for the README."""

QUICK_NOTE = "--quick: too small to measure. Figures show that it runs, no more.\n"


def print_header(names):
    """Begins a table; rows follow by `print_row`, as they are measured."""
    print_row(names)
    print_row(["---"] * len(names))


def print_row(cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def number(value):
    """Two figures below 10, all above; a dash for what was not measured."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def scientific(value):
    """One figure: for errors."""
    return "-" if value is None else f"{value:.0e}"
