"""The exception tree: picklable, with exit codes, and drawn truly at the top of its file."""

from __future__ import annotations

import pickle
import re

import pytest

from meddx import errors


def tree(base: type[errors.MeddxError]) -> list[type[errors.MeddxError]]:
    return [base, *(deeper for one in base.__subclasses__() for deeper in tree(one) if deeper.__module__ == errors.__name__)]


@pytest.mark.parametrize("kind", tree(errors.MeddxError))
def test_survives_pickling_between_workers(kind: type[errors.MeddxError]) -> None:
    error = pickle.loads(pickle.dumps(kind("what", "where", "do this")))
    assert type(error) is kind
    assert str(error) == "what\n  where: where\n  next:  do this"


def test_the_drawing_names_every_error_with_its_exit_code() -> None:
    drawn = dict(re.findall(r"(\w+Error)\s+(\d)", errors.__doc__ or ""))
    assert drawn == {one.__name__: str(one.exit_code) for one in tree(errors.MeddxError)}
