"""CertificateApproval, CertificateSigning, CertificateSubjectRestriction, ClusterTrustBundleAttest."""

from __future__ import annotations

import pytest
from admission_world import World, attributes, refusal, run

from kubegate.authentication import UserInfo

CSRS = "certificatesigningrequests.certificates.k8s.io"
BOB = UserInfo("bob")


def request(signer: str = "example.org/signer", status=None, **spec):
    return {"metadata": {"name": "r"}, "spec": {"signerName": signer, **spec}, "status": status or {}}


@pytest.mark.parametrize(
    ("plugin", "subresource", "verb"),
    [("CertificateApproval", "approval", "approve"), ("CertificateSigning", "status", "sign")],
)
@pytest.mark.parametrize("granted", ["example.org/signer", "example.org/*"])
async def test_a_signer_is_for_those_who_were_granted_it(world: World, plugin, subresource, verb, granted):
    chain = world.chain(plugin)
    decided = request(status={"conditions": [{"type": "Approved"}]})
    asked = attributes(CSRS, decided, request(), subresource=subresource, user=BOB)
    assert await refusal(chain, asked) == (
        f'{CSRS} "r" is forbidden: user not permitted to {verb} requests with signerName "example.org/signer"'
    )
    world.allowed.add(("bob", verb, "signers", granted))
    await run(chain, attributes(CSRS, decided, request(), subresource=subresource, user=BOB))


async def test_the_stored_signer_counts_not_the_one_in_the_request(world: World):
    world.allowed.add(("bob", "approve", "signers", "example.org/mine"))
    asked = attributes(CSRS, request("example.org/mine"), request(), subresource="approval", user=BOB)
    assert 'signerName "example.org/signer"' in await refusal(world.chain("CertificateApproval"), asked)


async def test_a_status_that_signs_nothing_needs_no_right_to_sign(world: World):
    same = request(status={"certificate": "x"})
    await run(world.chain("CertificateSigning"), attributes(CSRS, same, same, subresource="status", user=BOB))
    assert world.asked == []


async def test_nobody_asks_for_a_client_certificate_of_system_masters(world: World, certificate_request):
    chain = world.chain("CertificateSubjectRestriction")
    signer = "kubernetes.io/kube-apiserver-client"
    asked = attributes(CSRS, request(signer, request=certificate_request("me", "dev", "system:masters")))
    assert await refusal(chain, asked) == (
        f'{CSRS} "r" is forbidden: use of {signer} signer with system:masters group is not allowed'
    )
    await run(chain, attributes(CSRS, request(signer, request=certificate_request("me", "dev"))))
    await run(chain, attributes(CSRS, request(request=certificate_request("me", "system:masters"))))
    assert "failed to parse CSR" in await refusal(chain, attributes(CSRS, request(signer, request="bm9uZQ==")))
