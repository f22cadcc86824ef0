"""Which objects of archived tasks are still to be seen again in the bucket, and which were missing there.

A row of `second_looks` is a task whose folder is to be seen again; it goes when that is done, and the task has
`seen_again_at`. A row of `missing_objects` is one object that a listing did not show:

    doubted → found: the row goes, and the task is looked at again
            → wanted → restored → doubted → left_alone: missing twice is the owner's act
                     → unrecoverable: a problem until an operator acknowledges it

`SecondLooks` and `MissingObjects` write it down; `archive/second_look.py` looks.
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
