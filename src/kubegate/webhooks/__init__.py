"""The other side of the wire: reviews answered by Python functions, for any cluster's API server.

`gate` is what a policy file uses; `calls` runs its functions; `admission`, `tokens`, `access` and `images` answer one
kind of review each, `reviews` all of them; `app` is the HTTP side, `process` the server; `plugins` puts the same
functions in the chain of kubegate's own API server; `manifests` prints what a cluster needs to call the server.
"""
