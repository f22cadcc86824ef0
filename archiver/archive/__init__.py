"""From a succeeded task to its files in the bucket, and then its manifest. Enter at `stage`."""
