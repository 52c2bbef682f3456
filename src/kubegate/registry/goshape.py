"""How kube-apiserver's errors show structs: its internal types as JSON, with Go's names, order and zero values.

Some errors show a whole value (`Duplicate value: {"Name":"",…}`), and what may not be changed in a Pod or a claim is
told as a diff of two such texts. The names and order of fields are those of Kubernetes' internal types in v1.36.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import orjson
from msgspec import Struct

# Lines of one value times lines of the other, up to which the shortest difference is looked for; and the lines that are
# shown around one.
_MOST_COMPARED: Final = 1_000_000
_CONTEXT: Final = 3

# type -> its fields, in order. A field is `GoName`, or `GoName=jsonName` where the name is not the Go name with a small
# first letter, followed by what it is:  (nothing) string   # integer   ? boolean   ! anything that is null when absent
# (pointers, lists and maps of scalars)   ~ quantity   $ port, number or name   and for structs  :T one  *T pointer
# [T list  <T embedded: its fields stand in its place, read from the same JSON object.
_TYPES: Final[dict[str, str]] = {
    "PodSpec": (
        "Volumes[Volume InitContainers[Container Containers[Container EphemeralContainers[EphemeralContainer "
        "RestartPolicy TerminationGracePeriodSeconds! ActiveDeadlineSeconds! DNSPolicy=dnsPolicy NodeSelector! "
        "ServiceAccountName AutomountServiceAccountToken! NodeName SecurityContext*PodSecurityContext "
        "ImagePullSecrets[LocalObjectReference Hostname Subdomain SetHostnameAsFQDN! Affinity*Affinity SchedulerName "
        "Tolerations[Toleration HostAliases[HostAlias PriorityClassName Priority! PreemptionPolicy! "
        "DNSConfig=dnsConfig*PodDNSConfig ReadinessGates[PodReadinessGate RuntimeClassName! Overhead! "
        "EnableServiceLinks! TopologySpreadConstraints[TopologySpreadConstraint OS=os*PodOS "
        "SchedulingGates[PodSchedulingGate ResourceClaims[PodResourceClaim Resources*ResourceRequirements "
        "HostnameOverride! SchedulingGroup*PodSchedulingGroup"
    ),
    "HorizontalPodAutoscalerBehavior": "ScaleUp*HPAScalingRules ScaleDown*HPAScalingRules",
    "HPAScalingRules": "StabilizationWindowSeconds! SelectPolicy! Policies[HPAScalingPolicy Tolerance!",
    "HPAScalingPolicy": "Type Value# PeriodSeconds#",
    "ResourceClaimSpec": "Devices:DeviceClaim",
    "DeviceClaim": "Requests[DeviceRequest Constraints[DeviceConstraint Config[DeviceClaimConfiguration",
    "DeviceRequest": "Name Exactly*ExactDeviceRequest FirstAvailable[DeviceSubRequest",
    "ExactDeviceRequest": (
        "DeviceClassName Selectors[DeviceSelector AllocationMode Count# AdminAccess! Tolerations[DeviceToleration "
        "Capacity*CapacityRequirements"
    ),
    "DeviceSubRequest": (
        "Name DeviceClassName Selectors[DeviceSelector AllocationMode Count# Tolerations[DeviceToleration "
        "Capacity*CapacityRequirements"
    ),
    "DeviceSelector": "CEL=cel*CELDeviceSelector",
    "CELDeviceSelector": "Expression",
    "CapacityRequirements": "Requests!",
    "DeviceToleration": "Key Operator Value Effect TolerationSeconds!",
    "DeviceConstraint": "Requests! MatchAttribute! DistinctAttribute!",
    "DeviceClaimConfiguration": "Requests! Opaque*OpaqueDeviceConfiguration",
    "OpaqueDeviceConfiguration": "Driver Parameters!",
    "AllocationResult": "Devices:DeviceAllocationResult NodeSelector*NodeSelector AllocationTimestamp!",
    "DeviceAllocationResult": "Results[DeviceRequestAllocationResult Config[DeviceAllocationConfiguration",
    "DeviceRequestAllocationResult": (
        "Request Driver Pool Device AdminAccess! Tolerations[DeviceToleration BindingConditions! "
        "BindingFailureConditions! ShareID! ConsumedCapacity!"
    ),
    "DeviceAllocationConfiguration": "Source Requests! Opaque*OpaqueDeviceConfiguration",
    "DeviceAttribute": (
        "IntValue=int! BoolValue=bool! StringValue=string! VersionValue=version! IntValues=ints! BoolValues=bools! "
        "StringValues=strings! VersionValues=versions!"
    ),
    "PodOS": "Name",
    "PodSchedulingGate": "Name",
    "PodSchedulingGroup": "PodGroupName!",
    "PodReadinessGate": "ConditionType",
    "PodResourceClaim": "Name ResourceClaimName! ResourceClaimTemplateName!",
    "HostAlias": "IP=ip Hostnames!",
    "PodDNSConfig": "Nameservers! Searches! Options[PodDNSConfigOption",
    "PodDNSConfigOption": "Name Value!",
    "LocalObjectReference": "Name",
    "Toleration": "Key Operator Value Effect TolerationSeconds!",
    "Taint": "Key Value Effect TimeAdded!",
    "TopologySpreadConstraint": (
        "MaxSkew# TopologyKey WhenUnsatisfiable LabelSelector! MinDomains! NodeAffinityPolicy! NodeTaintsPolicy! "
        "MatchLabelKeys!"
    ),
    "Affinity": "NodeAffinity*NodeAffinity PodAffinity*PodAffinity PodAntiAffinity*PodAffinity",
    "NodeAffinity": (
        "RequiredDuringSchedulingIgnoredDuringExecution*NodeSelector "
        "PreferredDuringSchedulingIgnoredDuringExecution[PreferredSchedulingTerm"
    ),
    "VolumeNodeAffinity": "Required*NodeSelector",
    "NodeSelector": "NodeSelectorTerms[NodeSelectorTerm",
    "NodeSelectorTerm": "MatchExpressions[NodeSelectorRequirement MatchFields[NodeSelectorRequirement",
    "NodeSelectorRequirement": "Key Operator Values!",
    "PreferredSchedulingTerm": "Weight# Preference:NodeSelectorTerm",
    "PodAffinity": (
        "RequiredDuringSchedulingIgnoredDuringExecution[PodAffinityTerm "
        "PreferredDuringSchedulingIgnoredDuringExecution[WeightedPodAffinityTerm"
    ),
    "WeightedPodAffinityTerm": "Weight# PodAffinityTerm:PodAffinityTerm",
    "PodAffinityTerm": ("LabelSelector! Namespaces! TopologyKey NamespaceSelector! MatchLabelKeys! MismatchLabelKeys!"),
    "PodSecurityContext": (
        "HostNetwork? HostPID=hostPID? HostIPC=hostIPC? ShareProcessNamespace! HostUsers! "
        "SELinuxOptions=seLinuxOptions*SELinuxOptions WindowsOptions*WindowsOptions RunAsUser! RunAsGroup! "
        "RunAsNonRoot! SupplementalGroups! SupplementalGroupsPolicy! FSGroup=fsGroup! "
        "FSGroupChangePolicy=fsGroupChangePolicy! Sysctls[Sysctl SeccompProfile*SeccompProfile "
        "AppArmorProfile*AppArmorProfile SELinuxChangePolicy=seLinuxChangePolicy!"
    ),
    "SecurityContext": (
        "Capabilities*Capabilities Privileged! SELinuxOptions=seLinuxOptions*SELinuxOptions "
        "WindowsOptions*WindowsOptions RunAsUser! RunAsGroup! RunAsNonRoot! ReadOnlyRootFilesystem! "
        "AllowPrivilegeEscalation! ProcMount! SeccompProfile*SeccompProfile AppArmorProfile*AppArmorProfile"
    ),
    "Capabilities": "Add! Drop!",
    "SELinuxOptions": "User Role Type Level",
    "WindowsOptions": (
        "GMSACredentialSpecName=gmsaCredentialSpecName! GMSACredentialSpec=gmsaCredentialSpec! RunAsUserName! "
        "HostProcess!"
    ),
    "Sysctl": "Name Value",
    "SeccompProfile": "Type LocalhostProfile!",
    "AppArmorProfile": "Type LocalhostProfile!",
    "Container": (
        "Name Image Command! Args! WorkingDir Ports[ContainerPort EnvFrom[EnvFromSource Env[EnvVar "
        "Resources:ResourceRequirements ResizePolicy[ContainerResizePolicy RestartPolicy! "
        "RestartPolicyRules[ContainerRestartRule VolumeMounts[VolumeMount VolumeDevices[VolumeDevice "
        "LivenessProbe*Probe ReadinessProbe*Probe StartupProbe*Probe Lifecycle*Lifecycle TerminationMessagePath "
        "TerminationMessagePolicy ImagePullPolicy SecurityContext*SecurityContext Stdin? StdinOnce? TTY=tty?"
    ),
    "EphemeralContainer": "<Container TargetContainerName",
    "ContainerPort": "Name HostPort# ContainerPort# Protocol HostIP=hostIP",
    "EnvFromSource": "Prefix ConfigMapRef*OptionalName SecretRef*OptionalName",
    "OptionalName": "Name Optional!",
    "EnvVar": "Name Value ValueFrom*EnvVarSource",
    "EnvVarSource": (
        "FieldRef*ObjectFieldSelector ResourceFieldRef*ResourceFieldSelector ConfigMapKeyRef*KeySelector "
        "SecretKeyRef*KeySelector FileKeyRef*FileKeySelector"
    ),
    "ObjectFieldSelector": "APIVersion=apiVersion FieldPath",
    "ResourceFieldSelector": "ContainerName Resource Divisor~",
    "KeySelector": "Name Key Optional!",
    "FileKeySelector": "VolumeName Path Key Optional!",
    "ResourceRequirements": "Limits! Requests! Claims[ResourceClaim",
    "ResourceClaim": "Name Request",
    "ContainerResizePolicy": "ResourceName RestartPolicy",
    "ContainerRestartRule": "Action ExitCodes*ContainerRestartRuleOnExitCodes",
    "ContainerRestartRuleOnExitCodes": "Operator Values!",
    "VolumeMount": ("Name ReadOnly? RecursiveReadOnly! MountPath SubPath MountPropagation! SubPathExpr"),
    "VolumeDevice": "Name DevicePath",
    "Probe": (
        "<Handler InitialDelaySeconds# TimeoutSeconds# PeriodSeconds# SuccessThreshold# FailureThreshold# "
        "TerminationGracePeriodSeconds!"
    ),
    "Handler": "Exec*ExecAction HTTPGet=httpGet*HTTPGetAction TCPSocket=tcpSocket*TCPSocketAction GRPC=grpc*GRPCAction",
    "LifecycleHandler": (
        "Exec*ExecAction HTTPGet=httpGet*HTTPGetAction TCPSocket=tcpSocket*TCPSocketAction Sleep*SleepAction"
    ),
    "Lifecycle": "PostStart*LifecycleHandler PreStop*LifecycleHandler StopSignal!",
    "ExecAction": "Command!",
    "HTTPGetAction": "Path Port$ Host Scheme HTTPHeaders=httpHeaders[NameValue",
    "NameValue": "Name Value",
    "TCPSocketAction": "Port$ Host",
    "GRPCAction": "Port# Service!",
    "SleepAction": "Seconds#",
    "Volume": "Name <VolumeSource",
    "VolumeSource": (
        "HostPath*HostPath EmptyDir*EmptyDir GCEPersistentDisk=gcePersistentDisk*GCEPersistentDisk "
        "AWSElasticBlockStore=awsElasticBlockStore*AWSElasticBlockStore GitRepo*GitRepo Secret*SecretVolume "
        "NFS=nfs*NFS ISCSI=iscsi*ISCSI Glusterfs*Glusterfs PersistentVolumeClaim*ClaimVolume RBD=rbd*RBD "
        "Quobyte*Quobyte FlexVolume*FlexVolume Cinder*Cinder CephFS=cephfs*CephFS Flocker*Flocker "
        "DownwardAPI=downwardAPI*DownwardAPIVolume FC=fc*FC AzureFile*AzureFile ConfigMap*ConfigMapVolume "
        "VsphereVolume*VsphereVolume AzureDisk*AzureDisk PhotonPersistentDisk*PhotonPersistentDisk "
        "Projected*Projected PortworxVolume*PortworxVolume ScaleIO=scaleIO*ScaleIO StorageOS=storageos*StorageOS "
        "CSI=csi*CSI Ephemeral*Ephemeral Image*ImageVolume"
    ),
    "PersistentVolumeSource": (
        "GCEPersistentDisk=gcePersistentDisk*GCEPersistentDisk "
        "AWSElasticBlockStore=awsElasticBlockStore*AWSElasticBlockStore HostPath*HostPath "
        "Glusterfs*GlusterfsPersistent NFS=nfs*NFS RBD=rbd*RBD Quobyte*Quobyte ISCSI=iscsi*ISCSI "
        "FlexVolume*FlexVolume Cinder*Cinder CephFS=cephfs*CephFS FC=fc*FC Flocker*Flocker "
        "AzureFile*AzureFilePersistent VsphereVolume*VsphereVolume AzureDisk*AzureDisk "
        "PhotonPersistentDisk*PhotonPersistentDisk PortworxVolume*PortworxVolume ScaleIO=scaleIO*ScaleIO Local*Local "
        "StorageOS=storageos*StorageOS CSI=csi*CSIPersistent"
    ),
    "HostPath": "Path Type!",
    "EmptyDir": "Medium SizeLimit!",
    "GCEPersistentDisk": "PDName=pdName FSType=fsType Partition# ReadOnly?",
    "AWSElasticBlockStore": "VolumeID=volumeID FSType=fsType Partition# ReadOnly?",
    "GitRepo": "Repository Revision Directory",
    "SecretVolume": "SecretName Items[KeyToPath DefaultMode! Optional!",
    "KeyToPath": "Key Path Mode!",
    "NFS": "Server Path ReadOnly?",
    "ISCSI": (
        "TargetPortal IQN=iqn Lun# ISCSIInterface=iscsiInterface FSType=fsType ReadOnly? Portals! "
        "DiscoveryCHAPAuth=chapAuthDiscovery? SessionCHAPAuth=chapAuthSession? SecretRef*SecretReference InitiatorName!"
    ),
    "SecretReference": "Name Namespace",
    "Glusterfs": "EndpointsName=endpoints Path ReadOnly?",
    "GlusterfsPersistent": "EndpointsName=endpoints Path ReadOnly? EndpointsNamespace!",
    "ClaimVolume": "ClaimName ReadOnly?",
    "RBD": (
        "CephMonitors=monitors! RBDImage=image FSType=fsType RBDPool=pool RadosUser=user Keyring "
        "SecretRef*LocalObjectReference ReadOnly?"
    ),
    "Quobyte": "Registry Volume ReadOnly? User Group Tenant",
    "FlexVolume": "Driver FSType=fsType SecretRef*LocalObjectReference ReadOnly? Options!",
    "Cinder": "VolumeID=volumeID FSType=fsType ReadOnly? SecretRef*LocalObjectReference",
    "CephFS": "Monitors! Path User SecretFile SecretRef*LocalObjectReference ReadOnly?",
    "Flocker": "DatasetName DatasetUUID=datasetUUID",
    "DownwardAPIVolume": "Items[DownwardAPIFile DefaultMode!",
    "DownwardAPIFile": "Path FieldRef*ObjectFieldSelector ResourceFieldRef*ResourceFieldSelector Mode!",
    "FC": "TargetWWNs=targetWWNs! Lun! FSType=fsType ReadOnly? WWIDs=wwids!",
    "AzureFile": "SecretName ShareName ReadOnly?",
    "AzureFilePersistent": "SecretName ShareName ReadOnly? SecretNamespace!",
    "ConfigMapVolume": "Name Items[KeyToPath DefaultMode! Optional!",
    "VsphereVolume": "VolumePath FSType=fsType StoragePolicyName StoragePolicyID=storagePolicyID",
    "AzureDisk": "DiskName DataDiskURI=diskURI CachingMode! FSType=fsType! ReadOnly! Kind!",
    "PhotonPersistentDisk": "PdID=pdID FSType=fsType",
    "Projected": "Sources[VolumeProjection DefaultMode!",
    "VolumeProjection": (
        "Secret*ProjectedNames DownwardAPI=downwardAPI*DownwardAPIProjection ConfigMap*ProjectedNames "
        "ServiceAccountToken*ServiceAccountTokenProjection ClusterTrustBundle*ClusterTrustBundleProjection "
        "PodCertificate*PodCertificateProjection"
    ),
    "ProjectedNames": "Name Items[KeyToPath Optional!",
    "DownwardAPIProjection": "Items[DownwardAPIFile",
    "ServiceAccountTokenProjection": "Audience ExpirationSeconds# Path",
    "ClusterTrustBundleProjection": "Name! SignerName! LabelSelector! Optional! Path",
    "PodCertificateProjection": (
        "SignerName KeyType MaxExpirationSeconds! CredentialBundlePath KeyPath CertificateChainPath UserAnnotations!"
    ),
    "PortworxVolume": "VolumeID=volumeID FSType=fsType ReadOnly?",
    "ScaleIO": (
        "Gateway System SecretRef*LocalObjectReference SSLEnabled=sslEnabled? ProtectionDomain StoragePool StorageMode "
        "VolumeName FSType=fsType ReadOnly?"
    ),
    "StorageOS": "VolumeName VolumeNamespace FSType=fsType ReadOnly? SecretRef*LocalObjectReference",
    "CSI": "Driver ReadOnly! FSType=fsType! VolumeAttributes! NodePublishSecretRef*LocalObjectReference",
    "CSIPersistent": (
        "Driver VolumeHandle ReadOnly? FSType=fsType VolumeAttributes! ControllerPublishSecretRef*SecretReference "
        "NodeStageSecretRef*SecretReference NodePublishSecretRef*SecretReference "
        "ControllerExpandSecretRef*SecretReference NodeExpandSecretRef*SecretReference"
    ),
    "Local": "Path FSType=fsType!",
    "Ephemeral": "VolumeClaimTemplate*ClaimTemplate",
    "ClaimTemplate": "Metadata! Spec:PersistentVolumeClaimSpec",
    "ImageVolume": "Reference PullPolicy",
    "DeploymentStrategy": "Type RollingUpdate*RollingUpdateDeployment",
    "RollingUpdateDeployment": "MaxUnavailable! MaxSurge!",
    "DaemonSetUpdateStrategy": "Type RollingUpdate*RollingUpdateDaemonSet",
    "RollingUpdateDaemonSet": "MaxUnavailable! MaxSurge!",
    "StatefulSetUpdateStrategy": "Type RollingUpdate*RollingUpdateStatefulSet",
    "RollingUpdateStatefulSet": "Partition# MaxUnavailable!",
    "PersistentVolumeClaimSpec": (
        "AccessModes! Selector! Resources:VolumeResourceRequirements VolumeName StorageClassName! VolumeMode! "
        "DataSource*TypedLocalObjectReference DataSourceRef*TypedObjectReference VolumeAttributesClassName!"
    ),
    "VolumeResourceRequirements": "Limits! Requests!",
    "TypedLocalObjectReference": "APIGroup=apiGroup! Kind Name",
    "TypedObjectReference": "APIGroup=apiGroup! Kind Name Namespace!",
    "ServicePort": "Name Protocol AppProtocol! Port# TargetPort$ NodePort#",
    "ScopeSelector": "MatchExpressions[ScopedResourceSelectorRequirement",
    "ScopedResourceSelectorRequirement": "ScopeName Operator Values!",
    "NodeAddress": "Type Address",
    "SuccessPolicy": "Rules[SuccessPolicyRule",
    "SuccessPolicyRule": "SucceededIndexes! SucceededCount!",
    "PodFailurePolicy": "Rules[PodFailurePolicyRule",
    "PodFailurePolicyRule": (
        "Action OnExitCodes*PodFailurePolicyOnExitCodes OnPodConditions[PodFailurePolicyOnPodConditionsPattern"
    ),
    "PodFailurePolicyOnExitCodes": "ContainerName! Operator Values!",
    "PodFailurePolicyOnPodConditionsPattern": "Type Status",
    "VolumeAttachmentSpec": "Attacher Source:VolumeAttachmentSource NodeName",
    "VolumeAttachmentSource": "PersistentVolumeName! InlineVolumeSpec*PersistentVolumeSpec",
    "PersistentVolumeSpec": (
        "Capacity! <PersistentVolumeSource AccessModes! ClaimRef*ObjectReference "
        "PersistentVolumeReclaimPolicy StorageClassName MountOptions! VolumeMode! NodeAffinity*VolumeNodeAffinity "
        "VolumeAttributesClassName!"
    ),
    "EventSource": "Component Host",
    "ObjectReference": "Kind Namespace Name UID=uid APIVersion=apiVersion ResourceVersion FieldPath",
    "CSINodeDriver": "Name NodeID=nodeID TopologyKeys! Allocatable*VolumeNodeResources",
    "VolumeNodeResources": "Count!",
    "ParentReference": "Group Resource Namespace Name",
}
_MARKS: Final = "#?!~$:*[<"
_ZEROS: Final[dict[str, Any]] = {"": "", "#": 0, "?": False, "!": None, "~": "0", "$": 0}
# Where the internal type keeps what the API has one level above: in the security context of a Pod.
_LABEL_SELECTOR: Final = dict.fromkeys(("matchLabels", "matchExpressions"))
_POD_CONTEXT = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers")


class _Field(Struct, frozen=True):
    go: str
    json: str
    mark: str
    type: str


@cache
def _fields(type_name: str) -> tuple[_Field, ...]:
    return tuple(_field(text) for text in _TYPES[type_name].split())


def _field(text: str) -> _Field:
    cut = next((position for position, char in enumerate(text) if char in _MARKS), len(text))
    go, _, name = text[:cut].partition("=")
    return _Field(go, name or go[:1].lower() + go[1:], text[cut : cut + 1], text[cut + 1 :])


def shape(value: dict[str, Any], type_name: str) -> dict[str, Any]:
    """A JSON object of the API as the internal type's JSON: every field, in Go's order."""
    if type_name == "PodSpec":
        context = dict(value.get("securityContext") or {})
        context.update({name: value[name] for name in _POD_CONTEXT if name in value})
        value = {**value, "securityContext": context}
    shown: dict[str, Any] = {}
    for one in _fields(type_name):
        found = value.get(one.json)
        if one.mark == "<":
            shown.update(shape(value, one.type))
        elif one.mark == ":":
            shown[one.go] = shape(found or {}, one.type)
        elif one.mark == "*":
            shown[one.go] = None if found is None else shape(found, one.type)
        elif one.mark == "[":
            shown[one.go] = [shape(item, one.type) for item in found] if found else None
        elif found is None:
            shown[one.go] = _ZEROS[one.mark]
        else:
            shown[one.go] = plain(found)
    return shown


# The fields of metadata that a template may have, in Go's order; they stand beside Spec under their own names.
_TEMPLATE_META: Final = ("name", "generateName", "namespace", "labels", "annotations", "ownerReferences", "finalizers")


def template(value: dict[str, Any]) -> dict[str, Any]:
    """A PodTemplateSpec, in which metadata is embedded."""
    meta = value.get("metadata") or {}
    shown = {name: plain(meta[name]) for name in _TEMPLATE_META if meta.get(name)}
    return {**shown, "Spec": shape(value.get("spec") or {}, "PodSpec")}


def plain(value: Any) -> Any:
    """A value that is the same in both forms; maps in order of keys, as Go writes them."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() <= _LABEL_SELECTOR.keys():
        return {name: plain(value[name]) for name in _LABEL_SELECTOR if name in value}
    return {name: plain(value[name]) for name in sorted(value)}


def diff(old: dict[str, Any], new: dict[str, Any], type_name: str) -> str:
    """A unified diff of two values as their errors show it, without the lines that would name files."""
    before, after = _lines(old, type_name), _lines(new, type_name)
    if len(before) * len(after) > _MOST_COMPARED:
        return _one_change(before, after)
    import difflib  # for refusals alone

    return "".join(list(difflib.unified_diff(before, after, n=_CONTEXT))[2:])


def _one_change(before: list[str], after: list[str]) -> str:
    """A diff in which all from the first line that differs to the last one is one change.

    To find the shortest one takes the square of what is compared, which for a pod of a megabyte is hours.
    """
    shorter = min(len(before), len(after))
    same = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    rest = shorter - same
    alike = next((i for i in range(rest) if before[-1 - i] != after[-1 - i]), rest)
    start, end = max(same - _CONTEXT, 0), max(alike - _CONTEXT, 0)
    gone, come = before[same : len(before) - alike], after[same : len(after) - alike]
    if not gone and not come:
        return ""
    lines = [f"@@ -{start + 1},{len(before) - end - start} +{start + 1},{len(after) - end - start} @@\n"]
    lines += [f" {line}" for line in before[start:same]]
    lines += [f"-{line}" for line in gone] + [f"+{line}" for line in come]
    return "".join(lines + [f" {line}" for line in before[len(before) - alike : len(before) - end]])


def _lines(value: dict[str, Any], type_name: str) -> list[str]:
    text = orjson.dumps(shape(value, type_name), option=orjson.OPT_INDENT_2).decode()
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return [f"{_indented(line)}\n" for line in text.split("\n")]


def _indented(line: str) -> str:
    """By one space a level, as Go is told to; orjson knows two alone."""
    rest = line.lstrip(" ")
    return " " * ((len(line) - len(rest)) // 2) + rest
