"""PodSpec: what all kinds that have pods or templates of pods share.

`defaults` fills in, `spec` checks (and `containers`, `volumes`, `resources`, `probes`, `security`, `scheduling` each
their part of it), `warnings` warns, `qos` tells the quality of service.
"""
