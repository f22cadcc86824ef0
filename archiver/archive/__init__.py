"""From a succeeded task to its files in the bucket, and then its manifest. `stage` is the way in."""
