#!/usr/bin/env bash
# The lab of docs/iam.md, from nothing and without an account: AWS is moto's server on this machine (signatures checked),
# the cluster is kubegate. Wants `make env` and `scripts/tools.py kubectl aws`; everything is made in a folder that goes
# with the script.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
work=$(mktemp -d)
started=()
trap 'kill "${started[@]}" 2>/dev/null; wait; rm -rf "$work"' EXIT
mkdir "$work/bin" && ln -s "$root/.tools/kubectl-1.36" "$work/bin/kubectl"
export PATH="$work/bin:$root/.venv/bin:$root/.tools/aws/bin:$PATH" HOME="$work" KUBECONFIG="$work/kubeconfig"
cd "$work"

say() { printf '\n# %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@" 2>&1 | grep -v '^E[0-9]' || true; }  # kubectl's log beside its answer
last() { printf '$ %s\n' "$*"; "$@" 2>&1 | tail -n1 || true; }
until_there() { for _ in $(seq 300); do [ -s "$1" ] && return; sleep 0.1; done; echo "$1: nothing came" >&2; exit 1; }
anew() { # as one who is no administrator yet
  export AWS_ACCESS_KEY_ID=$1 AWS_SECRET_ACCESS_KEY=$2
}

# AWS, with a certificate of our own authority
kubegate pki init ca >/dev/null
kubegate pki server aws --host 127.0.0.1 >/dev/null
MOTO_IAM_LOAD_MANAGED_POLICIES=true "$root/.tools/aws/bin/python" "$root/tests/aws/moto_aws.py" aws.crt aws.key ca.crt >port 2>aws.log &
started+=($!)
until_there port
export AWS_ENDPOINT_URL="https://127.0.0.1:$(cat port)" AWS_CA_BUNDLE="$work/ca.crt" AWS_DEFAULT_REGION=us-east-1
control() { curl -sf --cacert ca.crt "$AWS_ENDPOINT_URL/control" --data-binary @-; }
anew setup setup

# the cluster, which asks that STS and no other
server=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
issuer="https://127.0.0.1:$server"
kubegate pki server kubegate --host 127.0.0.1 >/dev/null
kubegate up --secure-port="$server" --storage=memory --data-dir=state --simulate-nodes=1 \
  --tls-cert-file=kubegate.crt --tls-private-key-file=kubegate.key \
  --aws-iam-cluster-id=demo --aws-iam-sts-endpoint="127.0.0.1:$(cat port)" --aws-iam-sts-cafile=ca.crt \
  --service-account-issuer="$issuer" --enable-admission-plugins=PodIdentityWebhook >up.log 2>server.log &
started+=($!)
until_there state/admin.kubeconfig
sed -i "s|certificate-authority-data: .*|certificate-authority-data: $(base64 -w0 ca.crt)|" state/admin.kubeconfig
admin() { KUBECONFIG="$work/state/admin.kubeconfig" "$@"; }

# what EKS knows of the cluster, and jane, an administrator of the account
aws iam create-role --role-name eks --assume-role-policy-document '{}' >/dev/null
aws eks create-cluster --name demo --role-arn arn:aws:iam::123456789012:role/eks --resources-vpc-config '{}' >/dev/null
python - <<EOF | control
import json, re
config = open("state/admin.kubeconfig").read()
authority = open("ca.crt").read()
print(json.dumps({"cluster": "demo", "endpoint": re.search(r"server: (\S+)", config)[1], "authority": authority}))
EOF
aws iam create-user --user-name jane >/dev/null
aws iam attach-user-policy --user-name jane --policy-arn arn:aws:iam::aws:policy/AdministratorAccess
read -r id secret < <(aws iam create-access-key --user-name jane --query 'AccessKey.[AccessKeyId,SecretAccessKey]' --output text)
echo '{"auth": true}' | control
anew "$id" "$secret"

say "jane is an administrator of the account; the cluster does not know her"
run aws sts get-caller-identity --query Arn --output text
run aws eks update-kubeconfig --name demo
run kubectl get node
say "mapped to a user, she is authenticated; what she may do is RBAC's to say"
run admin kubegate iam map create --arn arn:aws:iam::123456789012:user/jane --username jane --group lab:viewers
run kubectl get node
say "a group that may look at nodes"
run admin kubectl create clusterrole nodes --verb=get,list,watch --resource=nodes
run admin kubectl create clusterrolebinding lab-viewers --clusterrole=nodes --group=lab:viewers
run kubectl get node
run kubectl auth whoami -o 'jsonpath={.status.userInfo.username} {.status.userInfo.groups}{"\n"}'
run admin kubegate iam map get
say "what her token says"
aws eks get-token --cluster-name demo >token.json
run kubegate iam verify --cluster demo --sts-endpoint "127.0.0.1:$(cat port)" --sts-cafile ca.crt <token.json
say "the same token is no token of another cluster"
last kubegate iam verify --cluster other --sts-endpoint "127.0.0.1:$(cat port)" --sts-cafile ca.crt <token.json
say "no longer mapped, she is refused, at once"
run admin kubegate iam map delete --arn arn:aws:iam::123456789012:user/jane
run kubectl get node

say "a role that the pods of default/reader may assume: the cluster is an OpenID provider of the account"
run admin kubectl create clusterrolebinding issuer --clusterrole=system:service-account-issuer-discovery --group=system:unauthenticated
aws iam create-open-id-connect-provider --url "$issuer" --client-id-list sts.amazonaws.com --thumbprint-list "$(printf '0%.0s' {1..40})" >/dev/null
admin kubegate iam trust-policy --account 123456789012 --service-account reader >trust.json
aws iam create-role --role-name reader --assume-role-policy-document file://trust.json >/dev/null
echo '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": ["arn:aws:s3:::open", "arn:aws:s3:::open/*"]}]}' >reads.json
aws iam put-role-policy --role-name reader --policy-name reads --policy-document file://reads.json
for bucket in open closed; do
  aws s3 mb "s3://$bucket" >/dev/null && echo "$bucket" | aws s3 cp - "s3://$bucket/greeting" >/dev/null
done
run admin kubegate iam service-account create reader --role arn:aws:iam::123456789012:role/reader
say "a pod of that account, on a simulated node: what it is given"
admin kubectl create -f - >/dev/null <<EOF
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
 "spec": {"serviceAccountName": "reader", "containers": [{"name": "web", "image": "nginx"}]}}
EOF
run admin kubectl wait --for=condition=Ready pod/web --timeout=30s
run admin kubectl get pod web -o 'jsonpath={range .spec.containers[0].env[*]}{.name}={.value}{"\n"}{end}'
run admin kubegate iam whoami --pod --of web --trust-policy trust.json --cafile ca.crt --sts-endpoint "$AWS_ENDPOINT_URL/"
say "AWS's clients in the pod: a bucket that the role may read, and one that it may not"
cat >bin/read-buckets <<EOF
#!$root/.tools/aws/bin/python
import boto3
from botocore.exceptions import ClientError

for bucket in "open", "closed":
    try:
        found = boto3.client("s3").get_object(Bucket=bucket, Key="greeting")["Body"].read().decode().strip()
    except ClientError as error:
        found = error.response["Error"]["Code"]
    print(f"{bucket}: {found}")
EOF
chmod +x bin/read-buckets
unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
export AWS_ROLE_SESSION_NAME=web
cloud=("AWS_ENDPOINT_URL=$AWS_ENDPOINT_URL" "AWS_CA_BUNDLE=$AWS_CA_BUNDLE" AWS_DEFAULT_REGION=us-east-1 AWS_ROLE_SESSION_NAME=web)
token=/var/run/secrets/eks.amazonaws.com/serviceaccount/token
inside() { kubegate exec web --data-dir "$work/state" -- env "${cloud[@]}" "$@"; }
if ! inside test -e "$token" 2>/dev/null; then # no mounts may be made here: the same files and variables without them
  token="$work/state/pods/$(admin kubectl get pod web -o 'jsonpath={.metadata.uid}')/volumes/aws-iam-token/token"
  inside() { AWS_ROLE_ARN=arn:aws:iam::123456789012:role/reader AWS_WEB_IDENTITY_TOKEN_FILE="$token" "$@"; }
fi
run inside aws sts get-caller-identity --query Arn --output text
run inside read-buckets
say "a token of another account is not trusted"
admin kubectl create token default --audience sts.amazonaws.com >other.token
export AWS_ROLE_ARN=arn:aws:iam::123456789012:role/reader AWS_WEB_IDENTITY_TOKEN_FILE="$work/other.token"
run aws sts get-caller-identity --query Arn --output text
