"""Where the repository and its published files are."""

import pathlib

import archiver

ROOT = pathlib.Path(archiver.__file__).parent.parent
SAMPLES = ROOT / "tests" / "samples"
DEPLOY = ROOT / "deploy"
