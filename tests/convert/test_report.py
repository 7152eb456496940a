import pytest

from keras_nonlocal.convert import CheckpointError, Report
from keras_nonlocal.convert.report import Mismatch

HEAD = Mismatch("pred/bias", "pred_b", (400,), (101,), "400 classes, not 101")
WRONG = Report(
    source="pyslowfast",
    matched={"a": "b", "c": "d"},
    inflated=("a",),
    filled={"res3_1_nonlocal/w_z/bias": 0.0},
    new=tuple(f"res3_1_nonlocal/{part}" for part in "abcdef"),
    ignored=("e",),
    missing=("conv1/kernel",),
    mismatches=(HEAD,),
    convention=("pool1 pads height and width by 0, not 1",),
    notes=("build the model with convention='pyslowfast'",),
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
  does not fit         1  pred/bias (101,) <- pred_b (400,): 400 classes, not 101
  convention           1  pool1 pads height and width by 0, not 1
! build the model with convention='pyslowfast'"""


def test_prints_a_short_table():
    assert str(WRONG) == TABLE
    fine = "weights of own\n  matched              1\n"
    fine += "  missing              0\n  unexpected           0"
    assert str(Report("own", matched={"a": "b"})) == fine


@pytest.mark.parametrize(
    "problem",
    [
        {"missing": ("a",)},
        {"unexpected": ("a",)},
        {"mismatches": (HEAD,)},
        {"not_finite": ("a",)},
        {"convention": ("a",)},
    ],
)
def test_each_problem_raises_with_the_report(problem):
    report = Report("own", **problem)
    assert not report.ok
    with pytest.raises(CheckpointError, match="nothing was loaded") as raised:
        report.raise_if_wrong()
    assert str(report) in str(raised.value)


def test_what_is_as_expected_does_not_raise():
    report = Report("own", matched={"a": "b"}, new=("c",), ignored=("d",), notes=("e",))
    assert report.ok
    report.raise_if_wrong()
