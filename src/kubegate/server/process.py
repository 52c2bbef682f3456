"""The server process: the parts put together in one visible place, started, and ended in good order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from kubegate.admission.build import build as build_admission
from kubegate.admission.chain import Chain
from kubegate.admission.config import AdmissionOptions, ConfigurationError
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.quota import Reservations
from kubegate.admission.webhooks import services
from kubegate.api import Object
from kubegate.api.clock import Clock, SystemClock
from kubegate.api.resources import Resources
from kubegate.authentication.build import AuthenticationOptions, BuiltAuthentication, Document
from kubegate.authentication.build import Dependencies as AuthenticationDependencies
from kubegate.authentication.build import build as build_authentication
from kubegate.authorization import Authorizer
from kubegate.authorization.build import Authorization, BuildError
from kubegate.authorization.build import build as build_authorization
from kubegate.controllers.manager import chosen
from kubegate.pki.cluster import Pki
from kubegate.registry.admissionregistration.objects import RegistryObjects
from kubegate.registry.authentication import legacy_tokens
from kubegate.registry.codec import ObjectCodec
from kubegate.registry.generic import Registry
from kubegate.registry.internal import Internal, RoleWriter
from kubegate.registry.keys import Keys
from kubegate.registry.rbac.escalation import RBAC_INDEX
from kubegate.server import audit, background, deadlines, health
from kubegate.server.aggregation import RemoteApis
from kubegate.server.app import App
from kubegate.server.background import Background
from kubegate.server.call import Call
from kubegate.server.components import Components
from kubegate.server.discovery import Discovery
from kubegate.server.front import Front
from kubegate.server.limits import Limits
from kubegate.server.metrics import Metrics
from kubegate.server.options import Options, UsageError, values
from kubegate.server.paths import Paths
from kubegate.server.preparation import storage_options, write_kubeconfig
from kubegate.server.responses import Response
from kubegate.server.rest import Rest
from kubegate.storage import ObjectEvent, Store, StoreUnavailable
from kubegate.storage.build import StorageOptions, open_store
from kubegate.storage.cache import WatchCache
from kubegate.transport.supervisor import Parent, run_until_told, told_to_end

if TYPE_CHECKING:
    from kubegate.server.openapi import OpenApi
    from kubegate.server.request_traces import RequestTraces
    from kubegate.server.workers import Worker
    from kubegate.webhooks.plugins import InProcess

log = logging.getLogger("kubegate")
_STORE_SECONDS = 60.0
_STORE_RETRY_SECONDS = 1.0


@dataclass(slots=True)
class Server:
    """A whole API server in this process. `start()` returns when it answers; `stop()` when nothing is left running.

    `worker` is its part where several processes serve together; `front` is what listens already, if anything does, and
    `store` what is open already.
    `url` is where it listens; `pki` the directory of keys that it made, None where all were given by flags.
    """

    options: Options
    clock: Clock = field(default_factory=SystemClock)
    worker: Worker | None = None
    front: Front | None = None
    store: Store | None = None
    url: str = ""
    pki: Pki | None = None
    registry: Registry = field(init=False)
    app: App = field(init=False)
    _admission: Chain = field(init=False)
    _reservations: Reservations = field(init=False)
    _store: Store = field(init=False)
    _cache: WatchCache = field(init=False)
    _authentication: BuiltAuthentication = field(init=False)
    _authorization: Authorization = field(init=False)
    _auditor: audit.Auditor = field(init=False)
    _traces: RequestTraces | None = None
    _tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    _closers: list[Callable[[], None]] = field(default_factory=list)
    _started: bool = False
    _draining: bool = False

    async def start(self) -> None:
        """Raises UsageError for options, files and stores that cannot be used; nothing is left running then."""
        try:
            await self._start()
        except (ConfigurationError, BuildError, StoreUnavailable, ValueError) as error:
            await self.stop()
            raise UsageError(str(error)) from error
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        options = self.options
        background.check(options)
        deadlines.check(options)
        front = self.front = self.front or Front(options, self.worker)
        await front.prepare()
        self.pki = front.pki or self.pki

        # where objects live
        self._store = self.store or open_store(self._storage(), clock=self.clock)
        resources = Resources.built_in()
        keys = Keys(resources)
        codec = ObjectCodec(keys)
        self._cache = WatchCache(self._store, codec, clock=self.clock)
        if self.store is None:
            await self._open_store()
        await front.listen()
        self.url = front.url
        await self._cache.start()
        registry = self.registry = self._registry(resources, keys)
        registry.largest = max(registry.largest, options.max_request_body_bytes)
        registry.extensions |= {
            "codec": codec,
            "event_ttl": options.event_ttl,
            "allow_privileged": options.allow_privileged,
            "options": options,
        }
        internal = Internal(registry)

        # who may do what to them
        gate = self._gate()
        self._authentication = await build_authentication(
            AuthenticationOptions.from_flags(options),
            AuthenticationDependencies(
                reader=registry.reader,
                clock=self.clock,
                mark_token_used=legacy_tokens.marker(internal),
                more_tokens=(lambda audiences: ()) if gate is None else gate.token_authenticators,
                good_authorities=frozenset([self.pki.ca_certificate] if self.pki and self.pki.unread else ()),
            ),
        )
        first: list[Authorizer] = [] if gate is None else [gate.authorizer]
        if options.aws_iam_cluster_id and "AccessEntry" in options.aws_iam_backend_mode:
            from kubegate.authorization.access_entries import AccessEntries

            first.append(AccessEntries(registry.reader))
        self._authorization = build_authorization(options, registry.reader, self.clock, first)
        self._spawn("authorization", self._authorization.run())
        registry.authorizer, registry.rules = self._authorization.authorizer, self._authorization.rules
        registry.extensions["authentication"] = self._authentication
        registry.extensions[RBAC_INDEX] = self._authorization.rbac
        self._reservations = Reservations(registry.reader, self.clock)
        if self.worker is not None and self.worker.kept:
            from kubegate.server.workers import share
            from kubegate.storage.kept import KeptStore

            assert isinstance(self._store, KeptStore)
            share(self._store, self._reservations)
        registry.admission = self._admission = build_admission(
            AdmissionOptions(
                enable=tuple(options.enable_admission_plugins),
                disable=tuple(options.disable_admission_plugins),
                config_file=options.admission_control_config_file,
                default_not_ready_toleration_seconds=options.default_not_ready_toleration_seconds,
                default_unreachable_toleration_seconds=options.default_unreachable_toleration_seconds,
            ),
            Dependencies(
                reader=registry.reader,
                authorize=registry.authorizer.authorize,
                writer=internal,
                clock=self.clock,
                resources=resources,
                objects=RegistryObjects(registry),
                reservations=self._reservations,
                services=services.parse(options.service_resolver),
                processes=1 if self.worker is None else self.worker.count,
            ),
            None if gate is None else gate.plugins,
        )
        await self._bootstrap(internal)
        self._serve_definitions(internal)

        # what clients see
        metrics = Metrics()
        if self.worker is not None:
            metrics = Metrics(self.worker.metrics())
            self._spawn("metrics", metrics.publish(self.clock))
        for each in self._authentication.metrics:
            metrics.add(each)
        remote = RemoteApis()
        self._closers.append(remote.follow(registry.reader))
        auditor = self._auditor = self._audit(metrics)
        self._traces = self._request_traces(metrics)
        health_checks = health.standard(
            started=lambda: None if self._started else "not started",
            store=self._store.health,
            informers=self._cache.health,
            draining=lambda: "the server is shutting down" if self._draining else None,
        )
        self.app = App(
            authenticator=self._authentication.authenticator,
            impersonator=self._authentication.impersonator,
            authorizer=registry.authorizer,
            resources=Rest(
                registry,
                self.clock,
                metrics,
                float(options.min_request_timeout),
                remote,
                Components(self._store.health, controllers=bool(chosen(options.controllers))),
            ),
            paths=Paths(
                Discovery(resources, self._address, remote),
                self._openapi,
                health_checks,
                metrics,
                self._documents(),
                lambda: values(options),
                self.clock,
            ),
            auditor=auditor,
            limits=Limits(options.max_requests_inflight, options.max_mutating_requests_inflight, metrics),
            metrics=metrics,
            max_body=options.max_request_body_bytes,
            request_timeout=options.request_timeout,
            catch_up=self._catch_up(),
            traces=self._traces,
        )
        self._started = True
        front.open(self.app.serve, self.app.serve_websocket)
        self._spawn("deadlines", self.app.deadlines.run(self.clock))
        self._spawn("clients", self.app.watch_clients(front.port, self.clock))
        self._spawn("controllers", self._later())

    async def _later(self) -> None:
        """What nobody waits for now: it answers already."""
        await asyncio.to_thread(self._authentication.load)
        await self._background().run(chosen(self.options.controllers))

    def _registry(self, resources: Resources, keys: Keys) -> Registry:
        if self.worker is None:
            return Registry(self._store, self._cache, resources, keys, self.clock)
        from kubegate.registry.together import SharingRegistry

        registry = SharingRegistry(self._store, self._cache, resources, keys, self.clock)
        locks = registry.alone = self.worker.locks(self.clock)
        self._closers += [lock.close for lock in locks.values()]
        return registry

    def _catch_up(self) -> Callable[[], Awaitable[None] | None] | None:
        """What a request waits for that comes in after another process wrote: see `App`."""
        if self.worker is None or not self.worker.kept:
            return None
        from kubegate.storage.kept import KeptStore

        store, cache = self._store, self._cache
        assert isinstance(store, KeptStore)
        return lambda: cache.fresh() if store.committed() > cache.revision else None

    def _documents(self) -> dict[str, Callable[[Call], Response]]:
        """The service account issuer's documents."""

        def served(make: Callable[[], Document]) -> Callable[[Call], Response]:
            def answer(call: Call) -> Response:
                document = make()
                headers = [(b"cache-control", document.cache_control.encode())]
                return Response(200, document.body, document.content_type.encode(), headers)

            return answer

        return {path: served(make) for path, make in self._authentication.documents(self._address).items()}

    def _openapi(self) -> OpenApi:
        from kubegate.server.openapi import OpenApi

        return OpenApi(self.registry.resources)

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """A task that lives as long as the server; `stop` ends it and waits for it."""
        self._tasks.append(asyncio.create_task(work, name=name))

    # ------------------------------------------------------------------ parts
    def _storage(self) -> StorageOptions:
        found = storage_options(self.options)
        return found if self.worker is None else replace(found, keeper=self.worker.keeper)

    async def _open_store(self) -> None:
        """Open the store; one that cannot be reached is tried again for a minute, and the log says so each time."""
        until = self.clock.monotonic() + _STORE_SECONDS
        while True:
            try:
                await self._store.start()
                return
            except StoreUnavailable as error:
                elsewhere = self.options.etcd_servers or self.worker is not None
                if not elsewhere or self.clock.monotonic() > until:
                    raise
                log.warning("the store cannot be opened, and is tried again: %s", error)
                await self.clock.sleep(_STORE_RETRY_SECONDS)

    async def _bootstrap(self, internal: Internal) -> None:
        """What a new server has: namespaces, roles, the service `kubernetes`. Brought up to date at each start."""
        from kubegate.authorization.bootstrap import reconcile
        from kubegate.registry.bootstrap import CURRENT, objects, settle_service_range

        wanted = list(objects(self.options, self.clock.now()))

        async def ensure(*, namespaces: bool) -> None:
            batch = [
                internal.ensure(name, obj, current=obj["metadata"]["name"] == CURRENT)
                for name, obj in wanted
                if (name == "namespaces") is namespaces
            ]
            await asyncio.gather(*batch)

        await ensure(namespaces=True)  # then what may be in them
        await asyncio.gather(ensure(namespaces=False), reconcile(RoleWriter(internal)))
        await settle_service_range(internal, self.options, self.clock.now())
        if self.options.aws_iam_cluster_id:
            from kubegate.aws.access_entries import definitions

            for definition in definitions(self.options.aws_iam_backend_mode):
                await internal.ensure("customresourcedefinitions.apiextensions.k8s.io", definition)

    def _serve_definitions(self, internal: Internal) -> None:
        """Serve custom resources from the first definition on; what that takes is loaded then."""
        registry, begun = self.registry, False

        def first(event: ObjectEvent, definition: Object, previous: Object | None) -> None:
            nonlocal begun
            if begun:
                return
            begun = True
            from kubegate.admission.webhooks.dispatch import Dispatcher
            from kubegate.registry.apiextensions.conversion import WebhookConversions
            from kubegate.registry.apiextensions.definitions import Definitions, watch_definitions

            dispatcher = Dispatcher(registry.reader, services.parse(self.options.service_resolver))
            registry.conversions = WebhookConversions(dispatcher)

            self._closers.append(watch_definitions(registry.reader, registry.resources))
            self._spawn("definitions", Definitions(internal, self.clock).run())

        self._closers.append(registry.reader.subscribe("customresourcedefinitions.apiextensions.k8s.io", first))

    def _gate(self) -> InProcess | None:
        """The policies of --gate, kept current as long as the server runs. Raises ValueError."""
        if not self.options.gate:
            return None
        from kubegate.webhooks.plugins import InProcess

        gate = InProcess(Path(self.options.gate), self.clock)
        self._spawn("gate", gate.run())
        self._closers.append(gate.close)
        return gate

    def _background(self) -> Background:
        return Background(
            self.registry,
            self.options,
            self.clock,
            self._authentication.signer,
            self._reservations,
            self.worker,
            self._address,
        )

    def _audit(self, metrics: Metrics) -> audit.Auditor:
        options = self.options
        if not options.audit_policy_file:
            return audit.Auditor(None, (), self.clock, metrics)
        from kubegate.server import audit_sinks
        from kubegate.server.audit_policy import read_policy

        policy = read_policy(Path(options.audit_policy_file))
        sinks: list[audit.Sink] = []
        if options.audit_webhook_config_file:
            webhook = audit_sinks.Webhook(
                audit_sinks.sender(options.audit_webhook_config_file),
                max_size=options.audit_webhook_batch_max_size,
                max_wait=options.audit_webhook_batch_max_wait,
                buffer=options.audit_webhook_batch_buffer_size,
                errors=metrics.audit_errors,
                now=self.clock.monotonic,
            )
            sinks.append(webhook)
            self._spawn("audit-webhook", webhook.run())
        if options.audit_log_path:
            file = audit_sinks.LogFile(
                options.audit_log_path,
                max_megabytes=options.audit_log_maxsize,
                max_backups=options.audit_log_maxbackup,
                max_days=options.audit_log_maxage,
                lock=None if self.worker is None else self.worker.audit_lock,
                errors=metrics.audit_errors,
                now=self.clock.monotonic,
            )
            sinks.append(file)
        return audit.Auditor(policy, sinks, self.clock, metrics)

    def _request_traces(self, metrics: Metrics) -> RequestTraces | None:
        options = self.options
        if not options.request_trace_path:
            return None
        from kubegate.server.linefile import LineFile
        from kubegate.server.request_traces import FLAG, RequestTraces

        file = LineFile(
            options.request_trace_path,
            FLAG,
            standard=2,
            max_megabytes=options.request_trace_maxsize,
            max_backups=1,
            lock=None if self.worker is None else self.worker.traces_lock,
        )
        qps = options.request_trace_qps // (1 if self.worker is None else self.worker.count)
        traces = RequestTraces(file, self.clock, qps=max(qps, 1) if options.request_trace_qps > 0 else 0)
        metrics.add(traces.metric())
        return traces

    def _address(self) -> str:
        return self.url.removeprefix("https://")

    def write_kubeconfig(self) -> Path | None:
        """`admin.kubeconfig` in the data directory; None where the administrator's key is not ours.

        One that was written when the port opened may have been changed since, and is left alone.
        """
        if self.pki is None:
            return None
        if self.front is not None and self.front.first_kubeconfig is not None:
            return self.front.first_kubeconfig
        return write_kubeconfig(self.options, self.pki, self.url)

    # ------------------------------------------------------------------ the end
    async def stop(self) -> None:
        """Drain: watches end cleanly, writes in flight finish, then the store is closed."""
        self._draining = True
        if hasattr(self, "app"):
            self.app.drain()
        if self.front is not None:
            await self.front.close()
        if hasattr(self, "_auditor"):
            await self._auditor.close()
        if self._traces is not None:
            await self._traces.close()
        for close in self._closers:
            close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if hasattr(self, "registry") and self.registry.conversions is not None:
            await self.registry.conversions.close()
        if hasattr(self, "_admission"):
            await self._admission.close()
        if hasattr(self, "_authentication"):
            await self._authentication.close()
        if hasattr(self, "_authorization"):
            await self._authorization.close()
        if hasattr(self, "_cache"):
            await self._cache.close()
        if hasattr(self, "_store"):
            await self._store.close()

    async def run(self, ready: Callable[[Server], None], parent: Parent | None = None) -> None:
        """Start, call `ready`, serve until SIGTERM or SIGINT or the end of the parent, stop."""
        told = asyncio.Event()
        with told_to_end(parent, told.set):
            waiting = asyncio.create_task(told.wait())
            starting = asyncio.create_task(self.start())
            await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                return
            await starting
            try:
                ready(self)
                assert self.front is not None
                ended = asyncio.create_task(self.front.wait())
                await asyncio.wait({ended, waiting}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if self.options.shutdown_delay_duration:
                    self._draining = True
                    await self.clock.sleep(self.options.shutdown_delay_duration)
            finally:
                await self.stop()


def serve(server: Server, ready: Callable[[Server], None], parent: Parent | None = None) -> None:
    """One server in this process, until it is told to end. Raises UsageError."""
    run_until_told(server.run(ready, parent))
