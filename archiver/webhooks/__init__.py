"""Posts signed JSON to applications by Standard Webhooks: for alerts, and for forwards."""
