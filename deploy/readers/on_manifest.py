"""Runs when a task is complete: a function for AWS Lambda, started by the event of its `manifest.json`.

    aws s3api put-bucket-notification-configuration --bucket my-results \\
        --notification-configuration file://event-notification.json

The filter is the suffix `/manifest.json`; S3 tells of no other object. For amendments too, take the suffix `.json` and
pass over `incomplete.json`. S3 tells at least once and in no order: what `handle` does must bear a second time.
"""

import json
from typing import Any
from urllib.parse import unquote_plus

import boto3


def handler(event: dict[str, Any], _context: object) -> list[str]:
    """The ids of the tasks of this event."""
    s3 = boto3.client("s3")
    done = []
    for record in event["Records"]:
        # Keys come as in a form: `+` is a space.
        bucket, key = record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
        if not key.endswith("/manifest.json"):
            continue
        manifest = json.load(s3.get_object(Bucket=bucket, Key=key)["Body"])
        handle(bucket, manifest)
        done.append(manifest["task_id"])
    return done


def handle(bucket: str, manifest: dict[str, Any]) -> None:
    """Your part: every file is there, checked and final. Store `key`, and never `source_url`, which ends."""
    for asset in manifest["assets"]:
        print(
            manifest["external_task_id"] or manifest["task_id"],
            f"s3://{bucket}/{asset['key']}",
            asset["sha256"],
        )
