"""What each month has cost: runs `cost.sql` over a folder of manifests, and prints CSV.

    sh rclone.sh manifests remote:my-results images/generations/2026/11 november
    python cost.py november

DuckDB reads the bucket itself where its extension httpfs can be installed (it is downloaded once, from
extensions.duckdb.org): `INSTALL httpfs; CREATE SECRET (TYPE s3, PROVIDER credential_chain);` and then
`python cost.py s3://my-results/images/generations/2026/11`. That asks the bucket anew at each run, one request a task;
a folder is read in a moment, works without a network, and is what the tests run.
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
    query = pathlib.Path(__file__).with_name("cost.sql").read_text()
    result = connection.execute(query, {"manifests": f"{folder}/**/manifest.json"})
    writer = csv.writer(sys.stdout)
    writer.writerow([column[0] for column in result.description])
    writer.writerows(result.fetchall())


if __name__ == "__main__":
    main()
