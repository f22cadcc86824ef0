"""The HTTP edge, from the top floor down. It imports the engine; the engine never imports it.

    __main__      `kling-receiver`: its arguments
    daemon        settings → edge and engine in one process, in one of four roles
    closing       the end of the process, also where the stop hangs
    parts         settings and engine → what the application is made of
    check         `kling-receiver --check`: what the daemon would look at, printed
    app, health   the routes · /healthz, /readyz, /metrics
    callbacks     POST /callbacks/…: body → signature → payload → committed in the ledger → 200
    links         GET /files/…: a file that is stored, or where it is until then
    api           /api/tasks: register and show, for holders of the admin token
    console       /console: pages for an operator who has the admin token
    gateway       Kling's own paths: relayed to Kling, its results with links, also when Kling has deleted them
    server        uvicorn: listening, limits, draining; reading bodies, writing answers

A callback enters at `callbacks/endpoint.py` and is committed by `callbacks/intake.py`; `archiver` does the rest.
"""
