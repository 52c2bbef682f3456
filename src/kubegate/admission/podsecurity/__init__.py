"""The Pod Security Standards: `checks` says what each level forbids in which version, `policy` what a namespace wants.

Follows k8s.io/pod-security-admission as of v1.36.
"""
