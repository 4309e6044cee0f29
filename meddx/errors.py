"""What can go wrong, as one small tree of picklable errors with exit codes.

(exit code behind each name)
MeddxError                  1    anything else that has a name
|- RecipeError              2    the recipe or the command line is wrong
|- DataError                3    the data is refused
|  |- LeakError             3    an input knows the answer, or parts are not disjoint
|  |- BundleError           3    a bundle is damaged, or does not fit the rows
|  `- OutputError           3    an output directory belongs to something else
|- BooksError               4    finished, but books unbalanced or too much quarantined
|- IncompleteError          5    not finished: run the same command again
|- RequirementError         6    finished, but a requirement is not met
|- StorageError             1    storage did not do what it was asked
`- ClusterError             1    Ray, or a worker, did not do what it was asked
"""

from __future__ import annotations


class MeddxError(Exception):
    """What happened, where, and what to do next, in two or three lines.

    Messages never carry patient ids or cell values of a patient; they name columns, counts and files.
    """

    exit_code = 1

    def __init__(self, what: str, where: str = "", next_step: str = "") -> None:
        super().__init__(what, where, next_step)  # args = the constructor's own, so that pickle can rebuild it
        self.what, self.where, self.next_step = what, where, next_step

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.next_step:
            lines.append(f"  next:  {self.next_step}")
        return "\n".join(lines)


class RecipeError(MeddxError):
    exit_code = 2


class DataError(MeddxError):
    exit_code = 3


class LeakError(DataError):
    pass


class BundleError(DataError):
    pass


class OutputError(DataError):
    pass


class BooksError(MeddxError):
    exit_code = 4


class IncompleteError(MeddxError):
    exit_code = 5


class RequirementError(MeddxError):
    exit_code = 6


class StorageError(MeddxError):
    """`kind`: missing, permission, full (no space left), busy (throttled, reset, or no answer: worth another try), damaged, or ''."""

    def __init__(self, what: str, where: str = "", next_step: str = "", kind: str = "") -> None:
        super().__init__(what, where, next_step)
        self.args, self.kind = (what, where, next_step, kind), kind


class ClusterError(MeddxError):
    pass
