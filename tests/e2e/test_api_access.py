"""Who somebody is for the API server, and what he may do. The numbers are those of the conformance checklist."""

import base64
import datetime
import http.client
import json
import os
import random
import ssl
import uuid

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID

from fake_edge import sign
from harness.api import Api
from harness.processes import wait_for

RBAC = "/apis/rbac.authorization.k8s.io/v1"
CORE = "/api/v1/namespaces/default"
NODES = "/api/v1/nodes"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"


@pytest.fixture(scope="module")
def cloud(cloud_only):
    return cloud_only.cloud


@pytest.fixture(scope="module")
def api(cloud):
    return Api(cloud.kubeconfig)


def unique(prefix="t"):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def call(api, method, path, body=None, token=None, user=None, groups=(), content_type="application/json", headers=()):
    """(status, answer) of one request: with a token instead of the certificate, or in another's name."""
    context = api.context
    if token is not None:
        context = ssl.create_default_context(cadata=api.ca)
    c = http.client.HTTPSConnection(api.host, api.port, context=context, timeout=60)
    try:
        c.putrequest(method, path)
        data = json.dumps(body).encode() if body is not None else b""
        for name, value in headers:
            c.putheader(name, value)
        if token is not None:
            c.putheader("Authorization", f"Bearer {token}")
        if user:
            c.putheader("Impersonate-User", user)
        for g in groups:
            c.putheader("Impersonate-Group", g)
        if data:
            c.putheader("Content-Type", content_type)
        c.putheader("Content-Length", str(len(data)))
        c.endheaders(data)
        r = c.getresponse()
        text = r.read()
        return r.status, json.loads(text) if text[:1] == b"{" else text.decode()
    finally:
        c.close()


def certificate_api(cloud, api, tmp_path, common_name, *organizations, ca=None, start=-3600, end=3600):
    """A client whose certificate was signed by the server's CA (or another), for a name of the test's choice."""
    pki = f"{cloud.dir}/data/pki"
    if ca is None:
        with open(f"{pki}/ca.crt", "rb") as f:
            ca_cert = x509.load_pem_x509_certificate(f.read())
        with open(f"{pki}/ca.key", "rb") as f:
            ca_key = serialization.load_pem_private_key(f.read(), None)
    else:
        ca_cert, ca_key = ca
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations] +
                     [x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    cert = sign(ca_cert, ca_key, key, name, start, end)
    path = tmp_path / f"{unique()}.kubeconfig"
    key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                                serialization.NoEncryption())
    path.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"https://{api.host}:{api.port}",
                                               "certificate-authority-data": base64.b64encode(api.ca.encode()).decode()}}],
        "users": [{"name": "u", "user": {"client-certificate-data": base64.b64encode(cert).decode(),
                                         "client-key-data": base64.b64encode(key_pem).decode()}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}))
    return Api(str(path))


def grant(api, user, rules, ns="default", cluster=False):
    """A role of these rules for the user; gives its name."""
    name = unique("r")
    where = RBAC if cluster else f"{RBAC}/namespaces/{ns}"
    role, binding = ("clusterroles", "clusterrolebindings") if cluster else ("roles", "rolebindings")
    api.ok("POST", f"{where}/{role}", {"metadata": {"name": name}, "rules": rules})
    api.ok("POST", f"{where}/{binding}", {
        "metadata": {"name": name}, "subjects": [{"kind": "User", "name": user}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole" if cluster else "Role", "name": name}})
    return name


def rule(verbs, resources, groups=("",), **more):
    return {"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources), **more}


def make_token(api, account="default", ns="default", **spec):
    return api.ok("POST", f"/api/v1/namespaces/{ns}/serviceaccounts/{account}/token", {"spec": spec})["status"]


# ---- certificates ----

def test_156_masters_may_everything_and_an_unknown_group_nothing(cloud, api, tmp_path):
    master = certificate_api(cloud, api, tmp_path, "anybody", "some-team", "system:masters")
    assert master.request("GET", "/api/v1/secrets")[0] == 200
    stranger = certificate_api(cloud, api, tmp_path, "eve", "strangers")
    status, body = stranger.request("GET", f"{CORE}/pods")
    assert (status, body["reason"]) == (403, "Forbidden")
    assert body["message"] == ('pods is forbidden: User "eve" cannot list resource "pods" in API group "" '
                               'in the namespace "default"')
    assert stranger.request("GET", "/apis")[0] == 200
    status, body = stranger.request("GET", "/metrics")
    assert (status, body["message"]) == (403, 'forbidden: User "eve" cannot get path "/metrics"')


def test_157_certificates_of_another_ca_or_expired_are_refused(cloud, api, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "other-ca")])
    now = datetime.datetime.utcnow()
    other = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
             .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
             .add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(key, hashes.SHA256()))
    for client in (certificate_api(cloud, api, tmp_path, "admin", "system:masters", ca=(other, key)),
                   certificate_api(cloud, api, tmp_path, "admin", "system:masters", start=-7200, end=-3600)):
        try:
            assert client.request("GET", "/api/v1/pods")[0] == 401
        except OSError:
            pass # an alert ends the handshake


# ---- kubectl ----

def test_158_kubectl_tells_who_i_am_and_what_i_may(cloud, api):
    user = unique("u")
    grant(api, user, [rule(["get", "list"], ["pods"])])
    assert cloud.kubectl("auth", "can-i", "get", "pods", "--as", user).strip() == "yes"
    assert cloud.kubectl("auth", "can-i", "delete", "pods", "--as", user, check=False).stdout.strip() == "no"
    assert cloud.kubectl("auth", "can-i", "get", "/healthz", "--as", user).strip() == "yes"
    listing = cloud.kubectl("auth", "can-i", "--list", "--as", user)
    assert "pods" in listing and "[get list]" in listing and "selfsubjectaccessreviews" in listing
    who = cloud.kubectl("auth", "whoami")
    assert "kubernetes-admin" in who and "system:masters" in who and "system:authenticated" in who


def test_kubectl_creates_roles_and_bindings_and_reconciles_them(cloud, api):
    name, user = unique("k"), unique("u")
    cloud.kubectl("create", "role", name, "--verb=get,list", "--resource=configmaps")
    cloud.kubectl("create", "rolebinding", name, f"--role={name}", f"--user={user}", "--serviceaccount=default:default")
    cloud.kubectl("create", "clusterrole", name, "--verb=get", "--non-resource-url=/metrics")
    cloud.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", f"--user={user}")
    assert call(api, "GET", f"{CORE}/configmaps", user=user)[0] == 200
    assert call(api, "GET", f"{CORE}/configmaps", user="system:serviceaccount:default:default")[0] == 200
    assert call(api, "GET", "/metrics", user=user)[0] == 200
    manifest = json.dumps({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                           "metadata": {"name": name, "namespace": "default"},
                           "rules": [rule(["delete"], ["configmaps"])]})
    cloud.kubectl("auth", "reconcile", "-f", "-", stdin=manifest)
    rules = api.ok("GET", f"{RBAC}/namespaces/default/roles/{name}")["rules"]
    assert {v for r in rules for v in r["verbs"]} == {"get", "list", "delete"}
    assert "ROLE" in cloud.kubectl("get", "rolebindings", "-o", "wide")


# ---- RBAC ----

def test_159_resource_names_and_subresources(api):
    user = unique("u")
    grant(api, user, [rule(["get", "list", "watch"], ["configmaps"], resourceNames=["one"]), rule(["get"], ["pods"])])
    assert call(api, "GET", f"{CORE}/configmaps/one", user=user)[0] == 404
    assert call(api, "GET", f"{CORE}/configmaps/two", user=user)[0] == 403
    assert call(api, "GET", f"{CORE}/configmaps", user=user)[0] == 403
    assert call(api, "GET", f"{CORE}/configmaps?fieldSelector=metadata.name=one", user=user)[0] == 200
    ask = {"spec": {"user": user, "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}}
    sar = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    assert api.ok("POST", sar, ask)["status"]["allowed"] is True
    ask["spec"]["resourceAttributes"]["subresource"] = "exec"
    assert api.ok("POST", sar, ask)["status"]["allowed"] is False
    local = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews"
    del ask["spec"]["resourceAttributes"]["subresource"]
    assert api.ok("POST", local, ask)["status"]["allowed"] is True
    ask["spec"]["resourceAttributes"]["namespace"] = "kube-system"
    assert api.request("POST", local, ask)[0] == 422


def test_160_a_role_binding_to_a_cluster_role_grants_in_its_namespace_only(cloud, api):
    user, name = unique("u"), unique("b")
    wait_for("the aggregated role", lambda: api.ok("GET", f"{RBAC}/clusterroles/view").get("rules"))
    cloud.kubectl("create", "rolebinding", name, "--clusterrole=view", f"--user={user}")
    assert call(api, "GET", f"{CORE}/pods", user=user)[0] == 200
    assert call(api, "GET", "/api/v1/namespaces/kube-system/pods", user=user)[0] == 403
    assert call(api, "GET", "/api/v1/pods", user=user)[0] == 403
    assert call(api, "GET", f"{CORE}/secrets", user=user)[0] == 403
    api.ok("DELETE", f"{RBAC}/namespaces/default/rolebindings/{name}")
    assert call(api, "GET", f"{CORE}/pods", user=user)[0] == 403


def test_161_nobody_grants_what_he_does_not_have(api):
    user = unique("u")
    grant(api, user, [rule(["create", "update", "get"], ["roles", "rolebindings"], ["rbac.authorization.k8s.io"]),
                      rule(["get", "list"], ["configmaps"])])
    roles, bindings = f"{RBAC}/namespaces/default/roles", f"{RBAC}/namespaces/default/rolebindings"
    name = unique("x")
    status, body = call(api, "POST", roles, {"metadata": {"name": name}, "rules": [rule(["get"], ["secrets"])]}, user=user)
    assert status == 403 and "is attempting to grant RBAC permissions not currently held" in body["message"]
    assert call(api, "POST", roles, {"metadata": {"name": name}, "rules": [rule(["get"], ["configmaps"])]}, user=user)[0] == 201
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    body = {"metadata": {"name": name}, "subjects": [{"kind": "User", "name": user}], "roleRef": ref}
    assert call(api, "POST", bindings, body, user=user)[0] == 403
    body["roleRef"] = {**ref, "kind": "Role", "name": name}
    assert call(api, "POST", bindings, body, user=user)[0] == 201
    # The right to bind is a right of its own.
    grant(api, user, [rule(["bind"], ["clusterroles"], ["rbac.authorization.k8s.io"], resourceNames=["view"])])
    body = {"metadata": {"name": unique()}, "subjects": [{"kind": "User", "name": "x"}], "roleRef": {**ref, "name": "view"}}
    assert call(api, "POST", bindings, body, user=user)[0] == 201
    body["roleRef"]["name"] = "edit"
    assert call(api, "POST", bindings, body, user=user)[0] == 403
    status, body = api.request("PATCH", f"{bindings}/{name}", {"roleRef": {"name": "other"}}, MERGE)
    assert status == 422 and "cannot change roleRef" in body["message"]


def test_an_aggregated_cluster_role_follows_its_parts(api):
    name, label = unique("agg"), unique("l")
    part = {"metadata": {"name": f"{name}-part", "labels": {label: "true"}}, "rules": [rule(["get"], ["widgets"], ["x.io"])]}
    api.ok("POST", f"{RBAC}/clusterroles", {"metadata": {"name": name}, "aggregationRule": {
        "clusterRoleSelectors": [{"matchLabels": {label: "true"}}]}})
    api.ok("POST", f"{RBAC}/clusterroles", part)
    wait_for("the rules", lambda: api.ok("GET", f"{RBAC}/clusterroles/{name}").get("rules") == part["rules"])
    api.ok("DELETE", f"{RBAC}/clusterroles/{name}-part")
    wait_for("no rules", lambda: not api.ok("GET", f"{RBAC}/clusterroles/{name}").get("rules"))


def test_roles_that_mean_nothing_are_refused(api):
    for bad in ([{"verbs": [], "apiGroups": [""], "resources": ["pods"]}], [{"verbs": ["get"], "resources": ["pods"]}],
                [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]):
        status, body = api.request("POST", f"{RBAC}/namespaces/default/roles", {"metadata": {"name": unique()}, "rules": bad})
        assert (status, body["reason"]) == (422, "Invalid"), body


def test_164_impersonation_needs_its_right(cloud, api):
    user, other = unique("u"), unique("o")
    grant(api, other, [rule(["list"], ["pods"])])
    # The admin's right does not count once he speaks as somebody else; so a token tells who asks.
    account = unique("sa")
    api.ok("POST", f"{CORE}/serviceaccounts", {"metadata": {"name": account}})
    token = make_token(api, account)["token"]
    status, body = call(api, "GET", f"{CORE}/pods", token=token, user=other)
    assert status == 403
    assert body["message"] == (f'users "{other}" is forbidden: User "system:serviceaccount:default:{account}" cannot '
                               f'impersonate resource "users" in API group "" at the cluster scope')
    grant(api, f"system:serviceaccount:default:{account}",
          [rule(["impersonate"], ["users"], resourceNames=[other]), rule(["impersonate"], ["groups"], resourceNames=["g1", "g2"]),
           rule(["impersonate"], ["userextras/scopes", "uids"], ["authentication.k8s.io"])], cluster=True)
    assert call(api, "GET", f"{CORE}/pods", token=token, user=other)[0] == 200
    assert call(api, "GET", f"{CORE}/pods", token=token, user=user)[0] == 403
    assert call(api, "GET", f"{CORE}/pods", token=token, user=other, groups=["system:masters"])[0] == 403
    status, me = call(api, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, token=token, user=other,
                      groups=["g1", "g2"], headers=[("Impersonate-Extra-Scopes", "a"), ("Impersonate-Uid", "42")])
    assert (status, me["status"]["userInfo"]) == (201, {"username": other, "uid": "42", "extra": {"scopes": ["a"]},
                                                        "groups": ["g1", "g2", "system:authenticated"]})
    assert call(api, "GET", f"{CORE}/pods", token=token, groups=["g1"])[0] == 400
    cloud.kubectl("get", "pods", "--as", other)


# ---- service accounts ----

def test_165_tokens_end_with_their_account_and_their_pod(api):
    account, name = unique("sa"), unique("p")
    uid = api.ok("POST", f"{CORE}/serviceaccounts", {"metadata": {"name": account}})["metadata"]["uid"]
    pod = api.ok("POST", f"{CORE}/pods", {"metadata": {"name": name}, "spec": {
        "serviceAccountName": account, "nodeName": "nowhere", "containers": [{"name": "c", "image": "x"}]}})
    free = make_token(api, account)["token"]
    bound = make_token(api, account, boundObjectRef={"apiVersion": "v1", "kind": "Pod", "name": name,
                                                     "uid": pod["metadata"]["uid"]})["token"]
    who = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    status, me = call(api, "POST", who, {}, token=bound)
    info = me["status"]["userInfo"]
    assert (status, info["username"], info["uid"]) == (201, f"system:serviceaccount:default:{account}", uid)
    assert {"system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"} <= set(info["groups"])
    assert info["extra"]["authentication.kubernetes.io/pod-name"] == [name]
    api.ok("DELETE", f"{CORE}/pods/{name}?gracePeriodSeconds=0")
    assert call(api, "POST", who, {}, token=bound)[0] == 401 and call(api, "POST", who, {}, token=free)[0] == 201
    api.ok("DELETE", f"{CORE}/serviceaccounts/{account}")
    assert call(api, "POST", who, {}, token=free)[0] == 401
    # An account of the same name is another account.
    api.ok("POST", f"{CORE}/serviceaccounts", {"metadata": {"name": account}})
    status, body = call(api, "POST", who, {}, token=free)
    assert (status, body["reason"], body["message"]) == (401, "Unauthorized", "Unauthorized")


def test_tokens_are_reviewed_for_their_audience(cloud, api):
    token = make_token(api, audiences=["vault"], expirationSeconds=600)["token"]
    review = "/apis/authentication.k8s.io/v1/tokenreviews"
    status = api.ok("POST", review, {"spec": {"token": token, "audiences": ["vault", "other"]}})["status"]
    assert status.get("audiences") == ["vault"] and status["authenticated"], status
    assert status["user"]["username"] == "system:serviceaccount:default:default"
    status = api.ok("POST", review, {"spec": {"token": token}})["status"]
    assert status["authenticated"] is False and status["error"]
    assert call(api, "GET", "/api", token=token)[0] == 401
    head, claims, signature = token.split(".")
    forged = base64.urlsafe_b64encode(json.dumps({**json.loads(base64.urlsafe_b64decode(claims + "==")),
                                                  "sub": "x"}).encode()).decode().rstrip("=")
    for bad in (f"{head}.{forged}.{signature}", "a.b.c", "x", ".".join([head, claims, ""]), "é.é.é".encode().decode("latin1")):
        assert call(api, "GET", "/api", token=bad)[0] == 401
    assert api.request("POST", f"{CORE}/serviceaccounts/default/token", {"spec": {"expirationSeconds": 10}})[0] == 422
    assert cloud.kubectl("create", "token", "default").count(".") == 2


def test_others_can_verify_tokens_with_the_published_keys(api):
    token = make_token(api)["token"]
    config = api.ok("GET", "/.well-known/openid-configuration")
    key = api.ok("GET", "/openid/v1/jwks")["keys"][0]
    def number(s):
        return int.from_bytes(base64.urlsafe_b64decode(s + "=="), "big")
    head, claims, signature = token.split(".")
    public = ec.EllipticCurvePublicNumbers(number(key["x"]), number(key["y"]), ec.SECP256R1()).public_key()
    raw = base64.urlsafe_b64decode(signature + "==")
    public.verify(encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")),
                  f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["iss"] == config["issuer"]
    assert json.loads(base64.urlsafe_b64decode(head + "=="))["kid"] == key["kid"]


def test_a_bootstrap_token_of_a_secret_is_an_identity(api):
    token_id = "".join(random.choice("0123456789abcdef") for _ in range(6))
    secret = {"metadata": {"name": f"bootstrap-token-{token_id}"}, "type": "bootstrap.kubernetes.io/token",
              "stringData": {"token-id": token_id, "token-secret": "0123456789abcdef",
                             "usage-bootstrap-authentication": "true", "expiration": "2199-01-01T00:00:00Z"}}
    api.ok("POST", "/api/v1/namespaces/kube-system/secrets", secret)
    who = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    status, me = call(api, "POST", who, {}, token=f"{token_id}.0123456789abcdef")
    assert (status, me["status"]["userInfo"]["username"]) == (201, f"system:bootstrap:{token_id}")
    assert "system:bootstrappers" in me["status"]["userInfo"]["groups"]
    assert call(api, "POST", who, {}, token=f"{token_id}.0123456789abcdee")[0] == 401
    assert call(api, "GET", "/api/v1/secrets", token=f"{token_id}.0123456789abcdef")[0] == 403


# ---- nodes ----

def as_node(name):
    return {"user": f"system:node:{name}", "groups": ["system:nodes"]}


def test_162_a_node_reads_what_its_pods_use_and_nothing_else(api):
    one, two, secret = unique("n"), unique("n"), unique("s")
    for name in (secret, f"{secret}-other"):
        api.ok("POST", f"{CORE}/secrets", {"metadata": {"name": name}})
    pod = unique("p")
    made = api.ok("POST", f"{CORE}/pods", {"metadata": {"name": pod}, "spec": {
        "nodeName": one, "containers": [{"name": "c", "image": "x", "envFrom": [{"secretRef": {"name": secret}}]}]}})
    assert call(api, "GET", f"{CORE}/secrets/{secret}", **as_node(one))[0] == 200
    assert call(api, "GET", f"{CORE}/secrets?fieldSelector=metadata.name={secret}", **as_node(one))[0] == 200
    assert call(api, "GET", f"{CORE}/secrets/{secret}", **as_node(two))[0] == 403
    assert call(api, "GET", f"{CORE}/secrets/{secret}-other", **as_node(one))[0] == 403
    assert call(api, "GET", f"{CORE}/secrets", **as_node(one))[0] == 403
    assert call(api, "GET", f"{CORE}/pods/{pod}", **as_node(one))[0] == 200
    assert call(api, "GET", f"{CORE}/pods/{pod}", **as_node(two))[0] == 403
    assert call(api, "PATCH", f"{CORE}/pods/{pod}/status", {"status": {"phase": "Running"}}, content_type=STRATEGIC,
                **as_node(two))[0] == 403
    assert call(api, "PATCH", f"{CORE}/pods/{pod}/status", {"status": {"phase": "Running"}}, content_type=STRATEGIC,
                **as_node(one))[0] == 200
    assert call(api, "GET", f"{NODES}/{two}", **as_node(one))[0] == 403
    assert call(api, "GET", NODES, **as_node(one))[0] == 403
    lease = {"metadata": {"name": two}, "spec": {"holderIdentity": two}}
    assert call(api, "POST", LEASES, lease, **as_node(one))[0] == 403
    assert call(api, "POST", LEASES, lease, **as_node(two))[0] == 201
    assert call(api, "GET", f"{LEASES}/{two}", **as_node(one))[0] == 403
    token = {"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": made["metadata"]["uid"]}}}
    assert call(api, "POST", f"{CORE}/serviceaccounts/default/token", token, **as_node(one))[0] == 201
    assert call(api, "POST", f"{CORE}/serviceaccounts/default/token", {"spec": {}}, **as_node(one))[0] == 403
    assert call(api, "POST", f"{CORE}/serviceaccounts/default/token", token, **as_node(two))[0] == 403
    stray = {"metadata": {"name": unique()}, "spec": {"nodeName": one, "containers": [{"name": "c", "image": "x"}]}}
    assert call(api, "POST", f"{CORE}/pods", stray, **as_node(one))[0] == 403
    stray["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    assert call(api, "POST", f"{CORE}/pods", stray, **as_node(two))[0] == 403
    assert call(api, "POST", f"{CORE}/pods", stray, **as_node(one))[0] == 201
    # With the pod, the right to its secrets goes.
    api.ok("DELETE", f"{CORE}/pods/{pod}?gracePeriodSeconds=0")
    assert call(api, "GET", f"{CORE}/secrets/{secret}", **as_node(one))[0] == 403


def test_163_a_node_changes_neither_its_taints_nor_labels_of_the_cluster(api):
    node = unique("n")
    who = as_node(node)
    assert call(api, "POST", NODES, {"metadata": {"name": unique("n")}}, **who)[0] == 403
    assert call(api, "POST", NODES, {"metadata": {"name": node, "labels": {"kubernetes.io/hostname": node}},
                                     "spec": {"taints": [{"key": "new", "effect": "NoSchedule"}]}}, **who)[0] == 201
    path = f"{NODES}/{node}"

    def patch(body):
        return call(api, "PATCH", path, body, content_type=MERGE, **who)
    status, body = patch({"spec": {"taints": []}})
    assert status == 403 and "is not allowed to modify taints" in body["message"]
    status, body = patch({"metadata": {"labels": {"node-restriction.kubernetes.io/team": "a"}}})
    assert status == 403 and "is not allowed to modify labels: node-restriction.kubernetes.io/team" in body["message"]
    assert patch({"metadata": {"labels": {"node-role.kubernetes.io/edge": ""}}})[0] == 403
    for label in ("example.com/rack", "topology.kubernetes.io/zone", "node.kubernetes.io/x", "plain"):
        assert patch({"metadata": {"labels": {label: "a"}}})[0] == 200, label
    assert call(api, "DELETE", path, **who)[0] == 403


# ---- the server's own ----

def test_cloudcore_itself_is_no_master(cloud):
    mine = Api(f"{cloud.dir}/data/cloudcore.kubeconfig")
    me = mine.ok("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})["status"]["userInfo"]
    assert me["username"] == "system:cloudcore" and "system:masters" not in me["groups"]
    assert mine.request("GET", "/api/v1/pods")[0] == 200
    assert mine.request("DELETE", "/api/v1/namespaces/default/secrets/x")[0] == 403
    assert mine.request("POST", f"{RBAC}/clusterroles", {"metadata": {"name": unique()}})[0] == 403


def test_the_signing_key_is_for_the_server_alone_and_stays(cloud, api):
    path = f"{cloud.dir}/data/pki/sa.key"
    assert os.stat(path).st_mode & 0o777 == 0o600
    token = make_token(api)["token"]
    cloud.restart()
    api.connection = None
    assert call(api, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, token=token)[0] == 201


def test_every_namespace_has_the_root_certificate(api):
    ns = unique("ns")
    api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": ns}})
    path = f"/api/v1/namespaces/{ns}/configmaps/kube-root-ca.crt"

    def there():
        status, body = api.request("GET", path)
        return status == 200 and body["data"] == {"ca.crt": api.ca}
    wait_for("the root certificate", there)
    api.ok("PATCH", path, {"data": {"ca.crt": "x", "more": "y"}}, MERGE)
    wait_for("it to be restored", there)
    api.ok("DELETE", path)
    wait_for("it to be back", there)
