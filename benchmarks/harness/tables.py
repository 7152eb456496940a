"""Markdown tables, as in docs/results.md."""

QUICK_NOTE = "--quick is a smoke test: the figures are not measurements.\n"


def print_header(names):
    """Begins a table; rows follow by `print_row`, as they are measured."""
    print_row(names)
    print_row(["---"] * len(names))


def print_row(cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def number(value):
    """Two significant figures below 10, else no decimals; a dash for None."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def scientific(value):
    """One significant figure, for errors."""
    return "-" if value is None else f"{value:.0e}"
