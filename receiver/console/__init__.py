"""`/console`: pages for an operator who has the admin token. The map, from the top down:

    console        the routes, and the pages for what is not there or has failed pages          one file for each kind
    of page: what it reads, what it does; charts access         login and logout, sessions, delays after wrong tokens
    frame          what every page stands in: session, CSRF token, form, threads, end rendering      a template → a page
    with its security headers readings       the threads that pages run on static_files   style, script and icon parts
    what the console is made of

A new page is a function `Visit → Response`, a template that extends `layout.html`, and a line in `routes` of its file:
`frame.page("/console/…", show)` for GET, `frame.action("/console/…", do)` for POST. `frame` lets only admins in, and
an action only with the CSRF token that `{{ csrf_field() }}` puts into its form. Links are written
`{{ url("tasks") }}`: relative, since a proxy may serve us below a path of its own. Neither `style=` nor inline
scripts work here: the policy forbids them.
"""
