"""IAM identities, mapped by a file or by objects of a cluster that are looked at every few seconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubegate.api import Object
from kubegate.api.clock import Clock
from kubegate.authentication import Authenticated
from kubegate.authentication.aws_iam import AwsIamAuthenticator, AwsIamSettings
from kubegate.authentication.aws_maps import (
    CONFIG_MAP,
    NAMESPACE,
    ConfigMapMaps,
    FileMaps,
    Maps,
    ObjectMaps,
    parse_private_dns_names,
)
from kubegate.authentication.watched import WatchedFile
from kubegate.aws.access_entries import ACCESS_ENTRY_API, IDENTITY_MAPPING_API
from kubegate.remote import result
from kubegate.remote.client import Client, Endpoint, RemoteError

log = logging.getLogger("kubegate.authentication")

_PATHS = {
    "EKSConfigMap": f"/api/v1/namespaces/{NAMESPACE}/configmaps/{CONFIG_MAP}",
    "CRD": f"/apis/{IDENTITY_MAPPING_API}/iamidentitymappings",
    "AccessEntry": f"/apis/{ACCESS_ENTRY_API}/accessentries",
}
CLUSTER_MODES = tuple(_PATHS)


class ClusterMaps:
    """The mappings of a kubeconfig's cluster. One that does not answer leaves what was read before in force."""

    def __init__(self, kubeconfig: Path, modes: Sequence[str]) -> None:
        """Raises pki.kubeconfig.BadKubeconfig, ValueError."""
        self._client = Client(Endpoint.from_kubeconfig(kubeconfig))
        self.maps: dict[str, ConfigMapMaps | ObjectMaps] = {}
        for mode in modes:
            match mode:
                case "EKSConfigMap":
                    self.maps[mode] = ConfigMapMaps()
                case "CRD":
                    self.maps[mode] = ObjectMaps.identity_mappings()
                case _:
                    self.maps[mode] = ObjectMaps.access_entries()

    async def refresh(self) -> None:
        for mode, maps in self.maps.items():
            try:
                found = await self._get(_PATHS[mode])
            except RemoteError as error:
                log.warning("%s could not be read; what was read before stays in force: %s", mode, error)
                continue
            if isinstance(maps, ConfigMapMaps):
                maps.put(found)
            else:
                maps.replace((found or {}).get("items") or [])

    async def _get(self, path: str) -> Object | None:
        """None where it is not there. Raises RemoteError."""
        answer = await self._client.get(self._client.endpoint.url.rstrip("/") + path)
        return None if answer.status == 404 else result.into(answer)

    async def close(self) -> None:
        await self._client.close()


class AwsIamSource:
    """One cluster's tokens. `mapping_file` is asked before what the cluster of `kubeconfig` says."""

    name = "aws-iam"

    def __init__(
        self,
        settings: AwsIamSettings,
        clock: Clock,
        *,
        mapping_file: Path | None = None,
        kubeconfig: Path | None = None,
        backends: Sequence[str] = (),
        private_dns_file: Path | None = None,
    ) -> None:
        """Raises ValueError and OSError for what cannot be used."""
        self._files: list[WatchedFile[Any]] = []
        self._cluster = ClusterMaps(kubeconfig, backends) if kubeconfig is not None else None
        self._read = self._cluster is None
        self._reading = asyncio.Lock()
        maps: list[Maps] = []
        if mapping_file is not None:
            file = FileMaps(mapping_file)
            self._files.append(file.file)
            maps.append(file)
        if self._cluster is not None:
            maps += self._cluster.maps.values()
        names: WatchedFile[dict[str, str]] | None = None
        if private_dns_file is not None:
            names = WatchedFile(
                private_dns_file, lambda content: parse_private_dns_names(content, str(private_dns_file))
            )
            self._files.append(names)
        self._authenticator = AwsIamAuthenticator(
            settings, maps, clock, private_dns_name=lambda instance: names.value.get(instance) if names else None
        )

    def start(self) -> None:
        pass

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        if not self._read:
            async with self._reading:
                if not self._read:
                    await self.refresh()
        return await self._authenticator.authenticate_token(token)

    async def refresh(self) -> None:
        changed = await asyncio.to_thread(lambda: [file for file in self._files if file.check()])
        for file in changed:
            file.apply()
        if self._cluster is not None:
            await self._cluster.refresh()
            self._read = True

    async def close(self) -> None:
        await self._authenticator.close()
        if self._cluster is not None:
            await self._cluster.close()
