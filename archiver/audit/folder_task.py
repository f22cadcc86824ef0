"""The documents of a folder → the task that they were written for, as a ledger has it. No I/O."""

import re
from collections.abc import Sequence

from archiver.archive.adoption import with_stem
from archiver.archive.manifest import Manifest
from archiver.audit.manifests import Document
from archiver.failures import ApiAnswerUnreadable
from archiver.kling.results import read_task
from archiver.ledger import RebuiltTask
from archiver.model import Role, StoredAsset


def main_document(documents: Sequence[Document]) -> Document | None:
    """The manifest, else `incomplete.json`."""
    usable = [document for document in documents if document.manifest is not None]
    manifest = next((document for document in usable if document.is_manifest), None)
    has_broken_one = any(document.is_manifest for document in documents)
    if manifest is not None or has_broken_one:
        return manifest
    return next((document for document in usable if document.is_incomplete), None)


def stored_files(documents: Sequence[Document]) -> tuple[StoredAsset, ...]:
    """For each stem, the file that was named first."""
    found: dict[str, StoredAsset] = {}
    for document in documents:
        if document.manifest is not None:
            stems = _stems_with_extensions(document.manifest)
            for asset in document.manifest.assets:
                named = with_stem(asset, stems)
                found.setdefault(named.stem, named)
    return tuple(found.values())


def _stems_with_extensions(manifest: Manifest) -> frozenset[str]:
    """Manifests of earlier versions hold no stems, and those of sounds may end like an extension."""
    if not any(asset.role is Role.AUDIO for asset in manifest.assets):
        return frozenset()
    try:
        return frozenset(asset.stem for asset in read_task(manifest.task, family=manifest.family).assets)
    except ApiAnswerUnreadable:
        return frozenset()


def rebuilt_task(
    manifest: Manifest,
    main: Document,
    documents: Sequence[Document],
    stored: tuple[StoredAsset, ...],
    *,
    is_whole: bool,
) -> RebuiltTask:
    """`manifest` is `main`'s; `is_whole`: every file was seen in the bucket."""
    amendments = [
        document for document in documents if document.manifest is not None and document is not main
    ]
    return RebuiltTask(
        task_id=manifest.task_id,
        external_task_id=manifest.external_task_id,
        family=manifest.family,
        created_at=manifest.created_at,
        updated_at=manifest.updated_at,
        archived_at=manifest.archived_at,
        discovered_by=manifest.discovered_by,
        request=manifest.request,
        document=manifest.task,
        manifest_key=None if main.is_incomplete else main.key,
        amendment_keys={_number(document.key): document.key for document in amendments},
        stored=stored,
        missing={file.name: file.reason for file in manifest.missing or ()},
        is_whole=is_whole,
    )


def _number(key: str) -> int:
    return int(re.sub(r"\D", "", key.rpartition("/")[2]))
