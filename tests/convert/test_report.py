import pytest

from keras_nonlocal.convert import CheckpointError, Problem, Report, Spelling

CLASSES = Problem("shape", (400,), (101,), weight="pred/bias", name="pred_b")
PADDING = Problem("padding", 0, 1, {"convention": "pyslowfast"}, weight="pool1")
SKIPPED = Problem(
    "argument", {"num_classes": 101}, {"num_classes": 400}, {"skip_classifier": True}
)
WRONG = Report(
    source="pyslowfast",
    matched={"a": "b", "c": "d"},
    inflated=("a",),
    filled={"res3_1_nonlocal/w_z/bias": 0.0},
    new=tuple(f"res3_1_nonlocal/{part}" for part in "abcdef"),
    ignored=("e",),
    problems=(Problem("missing", weight="conv1/kernel"), CLASSES, SKIPPED, PADDING),
    notes=(Problem("not an identity", weight="res3_1_nonlocal"),),
)
TABLE = """\
weights of pyslowfast
  matched              2
  inflated in time     1
  filled               1  res3_1_nonlocal/w_z/bias = 0
  new, expected        6  res3_1_nonlocal/a
                          res3_1_nonlocal/b
                          res3_1_nonlocal/c
                          res3_1_nonlocal/d and 2 more
  ignored              1
  missing              1  conv1/kernel
  unexpected           0
  does not fit         1  pred/bias (101,) <- pred_b (400,)
  network              2  num_classes=101, but the weights need num_classes=400
                          pool1 pads height and width by 0, not 1
! res3_1_nonlocal is new, and does not start as an identity"""
ADVICE = (
    "Build the model with convention='pyslowfast'. skip_classifier=True leaves the "
    "classifier out. strict=False loads what fits all the same."
)
FLAGS = Spelling(
    "--{argument} {value}",
    write=str,
    special={"skip_classifier": "--skip", "strict": None},
    verb="Use",
)


def test_prints_a_short_table():
    assert str(WRONG) == TABLE
    fine = "weights of own\n  matched              1\n"
    fine += "  missing              0\n  unexpected           0"
    assert str(Report("own", matched={"a": "b"})) == fine


def test_the_error_holds_the_report_and_what_to_do():
    with pytest.raises(CheckpointError) as raised:
        WRONG.raise_if_wrong()
    lead = "The weights do not fit, and nothing was loaded."
    assert str(raised.value) == f"{lead}\n{TABLE}\n{ADVICE}"
    assert raised.value.problems == WRONG.problems


def test_each_front_end_spells_arguments_once():
    with pytest.raises(CheckpointError) as raised:
        WRONG.raise_if_wrong()
    text = raised.value.describe(FLAGS)
    assert "--num_classes 101, but the weights need --num_classes 400" in text
    assert text.endswith(
        "Use --convention pyslowfast. --skip leaves the classifier out."
    )


@pytest.mark.parametrize(
    "problem",
    [
        Problem("missing", weight="a"),
        Problem("unexpected", name="a"),
        Problem("not finite", name="a"),
        CLASSES,
        PADDING,
    ],
)
def test_each_problem_raises_with_the_report(problem):
    report = Report("own", problems=(problem,))
    assert not report.ok
    with pytest.raises(CheckpointError, match="nothing was loaded") as raised:
        report.raise_if_wrong()
    assert str(report) in str(raised.value) and str(problem) in str(report)


def test_missing_and_unexpected_are_the_names_among_the_problems():
    problems = (Problem("missing", weight="a"), Problem("unexpected", name="b"))
    report = Report("own", problems=problems)
    assert (report.missing, report.unexpected) == (("a",), ("b",))


def test_what_is_as_expected_does_not_raise():
    notes = (Problem("no statistics"),)
    report = Report("own", matched={"a": "b"}, new=("c",), ignored=("d",), notes=notes)
    assert report.ok
    report.raise_if_wrong()


def test_fixes_of_several_options_are_joined():
    problems = [
        Problem("padding", 0, 1, {"non_local_options": {name: True}}, "pool1")
        for name in ("use_scale", "sub_sample")
    ]
    fix = {"non_local_options": {"use_scale": True, "sub_sample": True}}
    assert CheckpointError("", problems).fix == fix
