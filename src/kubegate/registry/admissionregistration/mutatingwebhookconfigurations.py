"""MutatingWebhookConfigurations: webhooks that may change objects."""

from __future__ import annotations

from kubegate.registry.admissionregistration import webhooks

RULES = webhooks.rules("MutatingWebhookConfiguration", mutating=True)
