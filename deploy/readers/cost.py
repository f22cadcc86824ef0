"""What each month has cost: runs `cost.sql` over a folder of manifests, and prints CSV.

    sh rclone.sh manifests remote:my-results images/generations/2026/11 november
    python cost.py november

DuckDB reads the bucket itself where its extension httpfs can be installed: once `INSTALL httpfs`, which downloads it
from extensions.duckdb.org, then `python cost.py s3://my-results/images/generations/2026/11`. It takes AWS_REGION,
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN from the environment, no profile and no role, and for
another store than AWS its host as DUCKDB_S3_ENDPOINT. That asks the bucket anew at each run, one request a task; a
folder is read in a moment and works without a network. The tests run the folder; the bucket was tried by hand, on
DuckDB 1.5.
"""

import csv
import pathlib
import sys

import duckdb


def main() -> None:
    folder = sys.argv[1].rstrip("/")
    connection = duckdb.connect()
    if folder.startswith("s3://"):
        connection.execute("LOAD httpfs")
        connection.execute("SET s3_url_style = 'path'")  # the style that every store has
    query = pathlib.Path(__file__).with_name("cost.sql").read_text()
    result = connection.execute(query, {"manifests": f"{folder}/**/manifest.json"})
    writer = csv.writer(sys.stdout)
    writer.writerow([column[0] for column in result.description])
    writer.writerows(result.fetchall())


if __name__ == "__main__":
    main()
