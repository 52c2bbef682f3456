"""Which plugins run, and the configuration file."""

from __future__ import annotations

import pytest

from kubegate.admission.config import AdmissionOptions, ConfigurationError, enabled, read


def test_the_default_plugins_are_those_of_kube_apiserver():
    assert enabled(AdmissionOptions()) == (
        "NamespaceLifecycle",
        "LimitRanger",
        "ServiceAccount",
        "TaintNodesByCondition",
        "PodSecurity",
        "Priority",
        "DefaultTolerationSeconds",
        "DefaultStorageClass",
        "StorageObjectInUseProtection",
        "PersistentVolumeClaimResize",
        "RuntimeClass",
        "CertificateApproval",
        "CertificateSigning",
        "ClusterTrustBundleAttest",
        "CertificateSubjectRestriction",
        "DefaultIngressClass",
        "PodTopologyLabels",
        "NodeDeclaredFeatureValidator",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionWebhook",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionWebhook",
        "ResourceQuota",
    )


def test_flags_add_and_take_away_but_never_change_the_order():
    names = enabled(AdmissionOptions(enable=("AlwaysDeny", "NodeRestriction"), disable=("Priority",)))
    assert names[-1] == "AlwaysDeny"
    assert names.index("NodeRestriction") == names.index("ServiceAccount") + 1
    assert "Priority" not in names


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigurationError, match="did you mean NodeRestriction"):
        enabled(AdmissionOptions(enable=("NodeRestrictions",)))


def test_a_name_in_both_flags_is_refused():
    with pytest.raises(ConfigurationError, match="overlapped"):
        enabled(AdmissionOptions(enable=("Priority",), disable=("Priority",)))


def test_a_plugin_is_configured_inline_or_in_a_file_beside(tmp_path):
    (tmp_path / "limits.yaml").write_text("kind: Configuration\nlimits: []\n")
    (tmp_path / "admission.yaml").write_text(
        """
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: EventRateLimit
  path: limits.yaml
- name: PodNodeSelector
  configuration: {podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: a=b}}
"""
    )
    assert read(str(tmp_path / "admission.yaml")) == {
        "EventRateLimit": {"kind": "Configuration", "limits": []},
        "PodNodeSelector": {"podNodeSelectorPluginConfig": {"clusterDefaultNodeSelector": "a=b"}},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: AdmissionConfiguration\napiVersion: v1", "wanted apiserver.config.k8s.io/v1 AdmissionConfiguration"),
        ("[]", "must hold one object"),
        ("plugins: [{name: PodSecurty}]", "did you mean PodSecurity?"),
        ("plugins: [{name: PodSecurity, config: {}}]", 'unknown field "config", did you mean configuration?'),
        ("plugins: [{name: PodSecurity}, {name: PodSecurity}]", "configured twice"),
        ("plugins: [{name: PodSecurity, path: none.yaml}]", "No such file"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_what_is_wrong(tmp_path, text, said):
    header = "" if text[0] in "[k" else "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n"
    (tmp_path / "a.yaml").write_text(header + text)
    with pytest.raises(ConfigurationError, match=said.replace("?", r"\?")):
        read(str(tmp_path / "a.yaml"))
