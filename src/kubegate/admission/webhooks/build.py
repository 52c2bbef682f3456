"""From what admission has at hand to the two webhook plugins."""

from __future__ import annotations

from pathlib import Path

from kubegate.admission import Plugin
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.webhooks import dispatch, mutating, validating
from kubegate.admission.webhooks.calls import Caller
from kubegate.admission.webhooks.configurations import Configurations, Webhook
from kubegate.admission.webhooks.dispatch import Dispatcher
from kubegate.admission.webhooks.matching import Equivalents, Routes


def build_plugins(dependencies: Dependencies) -> dict[str, Plugin]:
    """Both plugins by name. Raises ConfigurationError where their credentials cannot be read."""
    equivalents = Equivalents(dependencies.resources)

    def caller(name: str) -> Caller:
        base = Path(dependencies.options.config_file or ".").parent
        credentials = dispatch.credentials(dependencies.configuration(name), base)
        dispatcher = Dispatcher(dependencies.reader, dependencies.services, credentials)
        routes: Routes[Webhook] = Routes(equivalents, lambda webhook: webhook.rules)
        return Caller(dependencies.reader, dependencies.authorize, routes, dispatcher)

    reader = dependencies.reader
    return {
        mutating.NAME: mutating.MutatingWebhooks(
            Configurations(reader, "mutatingwebhookconfigurations"), caller(mutating.NAME), dependencies.objects
        ),
        validating.NAME: validating.ValidatingWebhooks(
            Configurations(reader, "validatingwebhookconfigurations"), caller(validating.NAME), dependencies.objects
        ),
    }
