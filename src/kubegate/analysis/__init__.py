"""Questions about access: who can, why, what if. Over an RBAC index, wherever its objects came from.

`sources` reads a cluster, a server or a folder of manifests; each other module answers one kind of question with
plain values that `to_dict` makes JSON of. Knows nothing of HTTP servers and command lines.
"""
