"""AWS IAM as EKS uses it: presigned tokens, the question to STS, ARNs, and what maps them to Kubernetes' users.

Knows nothing of authenticators: `authentication.aws_iam` and `authorization.access_entries` put these parts to use.
Follows aws-iam-authenticator and amazon-eks-pod-identity-webhook.
"""

from __future__ import annotations

from dataclasses import dataclass

TOKEN_PREFIX = "k8s-aws-v1."
CLUSTER_ID_HEADER = "x-k8s-aws-id"
TOKEN_SECONDS = 900.0
"""How long a presigned call of STS is good after its date, whatever it says of itself."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What STS says of a caller. `canonical_arn` is the role's where `arn` is that of a session of it.

    `session_name` is "" for callers that are no session; `access_key_id` names the credentials, and is no secret.
    """

    arn: str
    canonical_arn: str
    account_id: str
    user_id: str
    session_name: str = ""
    access_key_id: str = ""
