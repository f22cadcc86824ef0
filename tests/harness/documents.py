"""YAML as tests read and write it."""

import pathlib
from typing import Any

import yaml  # type: ignore[import-untyped]  # it has no types


def read(path: pathlib.Path) -> Any:
    """The one document of a file."""
    return yaml.safe_load(path.read_text())


def read_all(path: pathlib.Path) -> list[dict[str, Any]]:
    return parse_all(path.read_text())


def parse_all(text: str) -> list[dict[str, Any]]:
    """The documents of a text, without empty ones."""
    return [document for document in yaml.safe_load_all(text) if document is not None]


def write(path: pathlib.Path, document: object) -> None:
    path.write_text(yaml.safe_dump(document))
