"""Reads the bucket with boto3: every task of a day or a month, with its files.

    python manifests.py my-results images/generations/2026/11/
    python manifests.py my-results images/generations/2026/11/26/ --download pictures

A manifest is put last, so each one names files that are all there. Amendments (`amendment-1.json`, …) lie beside it
and name the files that the API added later.
"""

import argparse
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config

DOCUMENT = re.compile(r"/(manifest|amendment-[0-9]+)\.json$")


def open_bucket() -> Any:
    """Keys, region and AWS_ENDPOINT_URL_S3 come from boto3's own chain."""
    config = Config(
        request_checksum_calculation="when_required", response_checksum_validation="when_required"
    )
    return boto3.client("s3", config=config)


def manifests(s3: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Manifests and amendments below the prefix, in the order of their keys. An amendment has `amends`."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for row in page.get("Contents", []):
            if DOCUMENT.search(row["Key"]):
                yield json.load(s3.get_object(Bucket=bucket, Key=row["Key"])["Body"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bucket")
    parser.add_argument("prefix")
    parser.add_argument("--download", type=pathlib.Path, metavar="FOLDER")
    given = parser.parse_args()
    s3 = open_bucket()
    for manifest in manifests(s3, given.bucket, given.prefix):
        for asset in manifest["assets"]:
            print(manifest["task_id"], asset["role"], asset["bytes"], asset["key"], sep="\t")
            if given.download:
                path = given.download / asset["key"]
                path.parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(given.bucket, asset["key"], str(path))


if __name__ == "__main__":
    main()
