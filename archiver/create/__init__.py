"""Create tasks (`submitter`), and register tasks that others created (`registration`)."""
