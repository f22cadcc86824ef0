-- What each month has cost, by account and family, from a folder of manifests. DuckDB.
--
-- Kling's charges stand in `task`: `billing[]` where there is one (new standard: `charge_type` is `unit` or `cash`), else
-- `final_unit_deduction` (legacy, since 2026). A task with neither is counted with no charge.
-- Take manifests only: an amendment repeats the task.
WITH manifests AS (
    SELECT account, family, task_id, created_at, len(assets) AS files, task
    FROM read_json($manifests, format = 'auto', maximum_object_size = 16777216, columns = {
        account: 'VARCHAR', family: 'VARCHAR', task_id: 'VARCHAR', created_at: 'TIMESTAMPTZ',
        assets: 'JSON[]', task: 'JSON'
    })
),
bills AS (
    SELECT *, CASE WHEN coalesce(json_array_length(task, '$.billing'), 0) > 0 THEN (task -> '$.billing')::JSON[]
        ELSE [json_object('charge_type', 'unit', 'amount', task ->> '$.final_unit_deduction')] END AS billing
    FROM manifests
),
charges AS (
    SELECT account, family, task_id, created_at, files, unnest(billing) AS bill
    FROM bills
)
SELECT
    strftime(created_at AT TIME ZONE 'UTC', '%Y-%m') AS month,
    account,
    family,
    CASE WHEN bill ->> '$.charge_type' = 'cash' THEN coalesce(bill ->> '$.currency', 'cash') ELSE 'units' END AS charged_in,
    count(DISTINCT task_id) AS tasks,
    sum(coalesce(TRY_CAST(bill ->> '$.amount' AS DECIMAL(18, 4)), 0)) AS amount
FROM charges
GROUP BY ALL
ORDER BY ALL;
