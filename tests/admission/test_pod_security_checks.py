"""The Pod Security Standards: what each check says, and from which version on."""

from __future__ import annotations

import pytest

from kubegate.admission.podsecurity.checks import BASELINE, LATEST, PRIVILEGED, RESTRICTED, evaluate


def container(name: str = "a", /, **context):
    return {"name": name, **({"securityContext": context} if context else {})}


def spec(*containers, **fields):
    return {"containers": list(containers) or [container()], **fields}


def said(level: str, minor: int, pod, annotations=None) -> list[str]:
    return [str(violation) for violation in evaluate(level, minor, {"annotations": annotations or {}}, pod)]


GOOD = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
RESTRICTED_POD = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}

BASELINE_TEXTS = [
    (spec(hostNetwork=True, hostIPC=True), "host namespaces (hostNetwork=true, hostIPC=true)"),
    (
        spec(container(privileged=True), container("b", privileged=True)),
        'privileged (containers "a", "b" must not set securityContext.privileged=true)',
    ),
    (
        spec(container(capabilities={"add": ["SYS_TIME", "CHOWN", "NET_RAW"]})),
        'non-default capabilities (container "a" must not include "NET_RAW", "SYS_TIME" in '
        "securityContext.capabilities.add)",
    ),
    (
        spec(volumes=[{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "hostPath": {"path": "/"}}]),
        'hostPath volumes (volumes "v", "w")',
    ),
    (
        spec({"name": "a", "ports": [{"containerPort": 1, "hostPort": 80}, {"containerPort": 2}]}),
        'hostPort (container "a" uses hostPort 80)',
    ),
    (
        spec(
            {"name": "a", "ports": [{"hostPort": 80}]},
            initContainers=[{"name": "i", "ports": [{"hostPort": 443}, {"hostPort": 8}]}],
        ),
        'hostPort (containers "i", "a" use hostPorts 443, 8, 80)',
    ),
    (
        spec(
            {
                "name": "a",
                "livenessProbe": {"httpGet": {"host": "h"}},
                "lifecycle": {"preStop": {"tcpSocket": {"host": "g"}}},
            }
        ),
        'probe or lifecycle host (container "a" uses probe or lifecycle hosts "g", "h")',
    ),
    (
        spec(container(procMount="Unmasked")),
        'procMount (container "a" must not set securityContext.procMount to "Unmasked")',
    ),
    (
        spec(
            container(seLinuxOptions={"type": "spc_t", "role": "r"}), securityContext={"seLinuxOptions": {"user": "u"}}
        ),
        'seLinuxOptions (pod and container "a" set forbidden securityContext.seLinuxOptions: type "spc_t"; '
        "user may not be set; role may not be set)",
    ),
    (
        spec(
            container(seccompProfile={"type": "Unconfined"}), securityContext={"seccompProfile": {"type": "Unconfined"}}
        ),
        'seccompProfile (pod and container "a" must not set securityContext.seccompProfile.type to "Unconfined")',
    ),
    (
        spec(securityContext={"sysctls": [{"name": "kernel.a"}, {"name": "kernel.b"}, {"name": "net.ipv4.tcp_rmem"}]}),
        "forbidden sysctls (kernel.a, kernel.b)",
    ),
    (
        spec(
            container(windowsOptions={"hostProcess": True}), securityContext={"windowsOptions": {"hostProcess": True}}
        ),
        'hostProcess (pod and container "a" must not set securityContext.windowsOptions.hostProcess=true)',
    ),
    (
        spec(container(appArmorProfile={"type": "Unconfined"})),
        'forbidden AppArmor profile (container "a" must not set AppArmor profile type to "Unconfined")',
    ),
]


@pytest.mark.parametrize(("pod", "text"), BASELINE_TEXTS)
def test_baseline_forbids(pod, text):
    assert said(BASELINE, LATEST, pod) == [text]
    assert said(PRIVILEGED, LATEST, pod) == []


def test_an_app_armor_profile_counts_in_annotations_as_well():
    key = "container.apparmor.security.beta.kubernetes.io/a"
    assert said(BASELINE, LATEST, spec(), {key: "localhost/x"}) == []
    assert said(BASELINE, LATEST, spec(), {key: "unconfined"}) == [
        f'forbidden AppArmor profile (annotation must not set AppArmor profile type to "{key}="unconfined"")'
    ]


def test_ephemeral_containers_are_looked_at_like_all_others():
    pod = spec(ephemeralContainers=[container("debug", privileged=True)])
    assert said(BASELINE, LATEST, pod) == [
        'privileged (container "debug" must not set securityContext.privileged=true)'
    ]


def test_restricted_says_what_a_bare_pod_lacks():
    assert said(RESTRICTED, LATEST, spec()) == [
        'allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false)',
        'unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"])',
        'runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true)',
        'seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or '
        '"Localhost")',
    ]


def test_restricted_lets_a_pod_in_that_has_it_all():
    volumes = [{"name": "v", sort: {}} for sort in ("configMap", "csi", "emptyDir", "image", "projected", "secret")]
    assert said(RESTRICTED, LATEST, spec(container(**GOOD), securityContext=RESTRICTED_POD, volumes=volumes)) == []


@pytest.mark.parametrize(
    ("pod", "text"),
    [
        (
            spec(container(**{**GOOD, "capabilities": {"drop": ["CHOWN"], "add": ["NET_BIND_SERVICE", "CHOWN"]}})),
            'unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]; '
            'container "a" must not include "CHOWN" in securityContext.capabilities.add)',
        ),
        (
            spec(container(**GOOD), volumes=[{"name": "n", "nfs": {}}, {"name": "h", "hostPath": {}}, {"name": "x"}]),
            'restricted volume types (volumes "n", "h", "x" use restricted volume types "hostPath", "nfs", "unknown")',
        ),
        (
            spec(container(**GOOD, runAsUser=0), securityContext={**RESTRICTED_POD, "runAsUser": 0}),
            'runAsUser=0 (pod and container "a" must not set runAsUser=0)',
        ),
        (
            spec(container(**GOOD, runAsNonRoot=False)),
            'runAsNonRoot != true (container "a" must not set securityContext.runAsNonRoot=false)',
        ),
        (
            spec(container(**GOOD, seccompProfile={"type": "Unconfined"})),
            'seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
    ],
)
def test_restricted_forbids(pod, text):
    pod = {"securityContext": RESTRICTED_POD, **pod}
    assert said(RESTRICTED, LATEST, pod) == [text]


@pytest.mark.parametrize(
    ("level", "pod", "before", "since"),
    [
        (BASELINE, spec({"name": "a", "livenessProbe": {"httpGet": {"host": "h"}}}), 0, 34),
        (RESTRICTED, spec(container(runAsUser=0, **GOOD), securityContext=RESTRICTED_POD), 0, 23),
    ],
)
def test_some_things_are_forbidden_only_since_a_version(level, pod, before, since):
    assert said(level, since - 1, pod) == []
    assert said(level, since, pod) != []


@pytest.mark.parametrize(
    ("level", "pod", "since"),
    [
        (BASELINE, spec(securityContext={"sysctls": [{"name": "net.ipv4.ip_local_reserved_ports"}]}), 27),
        (BASELINE, spec(securityContext={"sysctls": [{"name": "net.ipv4.tcp_keepalive_time"}]}), 29),
        (BASELINE, spec(securityContext={"sysctls": [{"name": "net.ipv4.tcp_wmem"}]}), 32),
        (BASELINE, spec(container(seLinuxOptions={"type": "container_engine_t"})), 31),
        (BASELINE, spec(container(procMount="Unmasked"), hostUsers=False), 35),
        (
            RESTRICTED,
            spec(
                container(**GOOD, runAsUser=0),
                securityContext={"seccompProfile": {"type": "Localhost"}},
                hostUsers=False,
            ),
            35,
        ),
        (RESTRICTED, spec(os={"name": "windows"}, securityContext={"runAsNonRoot": True}), 25),
    ],
)
def test_some_things_are_let_in_only_since_a_version(level, pod, since):
    assert said(level, since - 1, pod) != []
    assert said(level, since, pod) == []
    assert said(level, LATEST, pod) == []


def test_restricted_forbids_unmasked_proc_mounts_in_user_namespaces_too():
    pod = spec(container(**GOOD, procMount="Unmasked"), securityContext=RESTRICTED_POD, hostUsers=False)
    assert said(RESTRICTED, LATEST, pod) == [
        'procMount (container "a" must not set securityContext.procMount to "Unmasked")'
    ]


def test_old_versions_look_at_old_things():
    """Seccomp was an annotation before 1.19; escalation was not looked at before 1.8, capabilities before 1.22."""
    annotations = {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}
    assert said(BASELINE, 18, spec(), annotations) == [
        'seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined")'
    ]
    assert said(BASELINE, 19, spec(), annotations) == []
    reasons = {minor: [text.split(" (")[0] for text in said(RESTRICTED, minor, spec())] for minor in (0, 8, 19, 22)}
    assert reasons == {
        0: ["runAsNonRoot != true"],
        8: ["allowPrivilegeEscalation != false", "runAsNonRoot != true"],
        19: ["allowPrivilegeEscalation != false", "runAsNonRoot != true", "seccompProfile"],
        22: [
            "allowPrivilegeEscalation != false",
            "unrestricted capabilities",
            "runAsNonRoot != true",
            "seccompProfile",
        ],
    }
