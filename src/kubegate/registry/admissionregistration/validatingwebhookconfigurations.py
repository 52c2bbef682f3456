"""ValidatingWebhookConfigurations: webhooks that may refuse objects."""

from __future__ import annotations

from kubegate.registry.admissionregistration import webhooks

RULES = webhooks.rules("ValidatingWebhookConfiguration", mutating=False)
