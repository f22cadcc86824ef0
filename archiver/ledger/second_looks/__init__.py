"""Second looks at archived tasks: which objects must still be seen again in the bucket, and which were missing there.

A row of `second_looks` is a task whose folder must be seen again. It is deleted when that is done, and the task has
`seen_again_at`. A row of `missing_objects` is one object that a listing did not show:

    doubted → found: the row is deleted, and the task is looked at again
            → wanted → restored → doubted → left_alone: missing twice, so the owner has deleted it
                     → unrecoverable: a problem until an operator acknowledges it

`SecondLooks` and `MissingObjects` record the results; `archive/second_look.py` looks.
"""

from archiver.ledger.second_looks.looks import DoubtedObject, ExpectedFolder, SecondLooks
from archiver.ledger.second_looks.missing import Doubt, MissingObject, MissingObjects
from archiver.ledger.second_looks.restores import Restores
from archiver.ledger.second_looks.trust import StoreTrust, Trust
from archiver.ledger.tables.second_looks import MissingState

__all__ = [
    "Doubt",
    "DoubtedObject",
    "ExpectedFolder",
    "MissingObject",
    "MissingObjects",
    "MissingState",
    "Restores",
    "SecondLooks",
    "StoreTrust",
    "Trust",
]
