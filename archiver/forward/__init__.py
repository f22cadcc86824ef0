"""The last stage: applications are told what became of tasks, once the files are safe. Entered at `stage.py`."""
