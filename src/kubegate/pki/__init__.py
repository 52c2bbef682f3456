"""Keys, certificates, signing requests and kubeconfig files. Imports nothing else of kubegate.

`keys` makes and reads keys, `certificates` issues and reads certificates, `signers` holds the rules of Kubernetes'
built-in signers, `kubeconfig` reads and writes kubeconfig files, `cluster` makes all that a server starts with.
"""
