"""What deploy/ says, held against those who read it: Helm's engine, kubectl's kustomize, the Kubernetes API's schemas, the
Compose specification, and tidegate itself for the configurations inside. Run by scripts/check-deploy.sh.

  check.py TIDEGATE KUBECTL     the two programs
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

import compose_spec
import helm_python
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/tidegate"
# The oldest that the chart names, and the newest whose schemas are there.
KUBERNETES = ["1.27", "1.37"]
# Without schemas there: custom resources.
CUSTOM = {"PodMonitor"}

VALUES = {
    "defaults": {},
    "one plain listener, no TLS": {"tls": {"secretName": ""}, "replicas": 1, "brokers": {"proxyProtocol": "off", "probe": "mqtt"}},
    "DaemonSet on the nodes' network": {
        "kind": "DaemonSet", "hostNetwork": True, "nodeSelector": {"edge": "true"}, "tolerations": [{"operator": "Exists"}]},
    "Deployment on the nodes' network": {"hostNetwork": True},
    "brokers by SRV": {"brokers": {"discover": "dns+srv://_mqtt._tcp.emqx.example"}},
    "other ports, EMQX's chart": {"brokers": {
        "port": 2883, "httpPort": 28083,
        "maxConnections": 9000, "selector": {"app.kubernetes.io/name": "emqx", "app.kubernetes.io/instance": "mq"}}},
    "autoscaled, monitored": {"autoscaling": {"enabled": True}, "podMonitor": {"enabled": True, "labels": {"release": "p"}}},
    "all that a pod may have": {
        "image": {"repository": "registry.example:5000/tidegate", "tag": "1", "pullSecrets": [{"name": "pull"}]},
        "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"}, "priorityClassName": "high",
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "edge", "operator": "Exists"}]}]}}}},
    "another service": {"service": {
        "type": "NodePort", "annotations": {"x": "y"}, "mqttPort": 11883}, "networkPolicy": {"enabled": False}},
    "inside alone": {"service": {"type": "ClusterIP"}, "disruptionBudget": {"enabled": False}},
    "source ranges": {"service": {"loadBalancerSourceRanges": ["192.0.2.0/24"]}, "fullnameOverride": "edge"},
    "more configuration": {"extraConfig": "[log]\naccess = \"errors\"\n[pools.emqx.outlier]\nfailures = 9\n"},
    "one more listener": {
        "service": {"extraPorts": [{"name": "dashboard", "port": 80, "containerPort": 18083}]},
        "extraConfig": "[[listeners]]\nbind = \"0.0.0.0:18083\"\nprotocol = \"tcp\"\npool = \"ui\"\n"
                       "[pools.ui]\ndiscover = \"dns+a://emqx:18083\"\n"},
    "configuration of one's own": {"config": "[admin]\nbind = \"0.0.0.0:9090\"\n"
                                             "token_file = \"/etc/tidegate/secrets/admin.token\"\n"
                                             "[[listeners]]\nbind = \"0.0.0.0:1883\"\n"
                                             "[pools.p]\nendpoints = [\"192.0.2.1:1883\"]\n"},
}
# Values that have to be refused, and a word that the refusal has to say.
REFUSED = [
    ({"replica": 3}, "replica"),
    ({"kind": "StatefulSet"}, "kind"),
    ({"brokers": {"proxyProtocol": "v3"}}, "proxyProtocol"),
    ({"brokers": {"port": 70000}}, "port"),
    ({"brokers": {"discover": "emqx:1883"}}, "discover"),
    ({"service": {"extraPorts": [{"name": "x", "port": 1}]}}, "containerPort"),
    ({"config": "[[listeners]]\nbind = \"0.0.0.0:1883\"\n"}, "[admin]"),
    ({"kind": "DaemonSet", "autoscaling": {"enabled": True}}, "autoscaling"),
    ({"config": "x", "extraConfig": "y"}, "extraConfig"),
]

misses = []


def miss(what):
    misses.append(what)
    print(f"  FAILED {what}", file=sys.stderr)


def validate(where, documents):
    for document in documents:
        name = f"{document.get('kind')}/{document['metadata']['name']}"
        if document["kind"] in CUSTOM:
            continue
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                miss(f"{where}: {name} for Kubernetes {version}: {str(error)[:400]}")


def references(where, documents):
    """What a selector selects, a mount mounts and a port names has to be there."""
    named = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    workload = next(document for document in documents if document["kind"] in ("Deployment", "DaemonSet"))
    template = workload["spec"]["template"]
    labels, pod = template["metadata"]["labels"], template["spec"]
    ports = {port["name"] for port in pod["containers"][0]["ports"]}
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounts = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    if volumes != mounts:
        miss(f"{where}: volumes {volumes} and mounts {mounts} differ")
    for volume in pod["volumes"]:
        if "configMap" in volume and ("ConfigMap", volume["configMap"]["name"]) not in named:
            miss(f"{where}: no ConfigMap {volume['configMap']['name']}")
    for (kind, name), document in named.items():
        spec = document.get("spec", {})
        selector = {"Service": spec.get("selector"), "PodDisruptionBudget": spec.get("selector", {}).get("matchLabels"),
                    "NetworkPolicy": spec.get("podSelector", {}).get("matchLabels"),
                    "PodMonitor": spec.get("selector", {}).get("matchLabels")}.get(kind)
        if selector and not name.endswith("-brokers") and not selector.items() <= labels.items():
            miss(f"{where}: {kind}/{name} selects {selector}, pods have {labels}")
        if kind == "Service" and not name.endswith("-brokers"):
            unknown = {port["targetPort"] for port in spec["ports"]} - ports
            if unknown:
                miss(f"{where}: Service/{name} names ports {unknown}")
        if kind == "HorizontalPodAutoscaler" and (spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]) not in named:
            miss(f"{where}: the autoscaler has no target")


def broker_selector(where, documents, values):
    """What was asked for and nothing beside: Helm adds maps up."""
    wanted = values.get("brokers", {}).get("selector") or {"apps.emqx.io/instance": "emqx"}
    for document in documents:
        if document["kind"] == "Service" and document["metadata"]["name"].endswith("-brokers"):
            if document["spec"]["selector"] != wanted:
                miss(f"{where}: brokers are selected by {document['spec']['selector']}")


def configuration(where, text, tidegate):
    """`tidegate check` says yes, with secrets in the place of those that the deployment mounts."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        paths = {"/etc/tidegate/secrets": "s", "/etc/tidegate/tls": "t", "/run/secrets": "s"}
        for path, there in paths.items():
            text = text.replace(path, str(folder / there))
        for there in ("s", "t"):
            (folder / there).mkdir()
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                            "/CN=t", "-keyout", folder / there / "tls.key", "-out", folder / there / "tls.crt"],
                           check=True, capture_output=True)
        (folder / "s/server.key").write_bytes((folder / "s/tls.key").read_bytes())
        (folder / "s/server.crt").write_bytes((folder / "s/tls.crt").read_bytes())
        (folder / "s/admin.token").write_text("0123456789abcdef0123456789abcdef\n")
        (folder / "s/gossip.keys").write_text("A" * 43 + "=\n")
        for secret in folder.glob("?/*"):
            secret.chmod(0o600)
        file = folder / "tidegate.toml"
        file.write_text(text)
        environment = {"POD_IP": "192.0.2.7", "TIDEGATE_BROKERS": "dns+a://emqx:1883"}
        done = subprocess.run([tidegate, "check", "-c", file], capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            miss(f"{where}: {done.stderr or done.stdout}")


def comparable(documents):
    """Objects by kind and name, without the labels and the hash in a name that each of the two tools adds."""
    def strip(value):
        if isinstance(value, dict):
            return {key: strip(inner) for key, inner in value.items()
                    if key not in ("labels", "annotations", "app.kubernetes.io/instance")}
        return [strip(inner) for inner in value] if isinstance(value, list) else value
    stripped = {}
    for document in documents:
        document = strip(document)
        if document["kind"] == "ConfigMap":
            document["metadata"]["name"] = "tidegate"
            document["data"] = {key: tomllib.loads(text) for key, text in document["data"].items()}
        if document["kind"] == "Deployment":
            document["spec"]["template"].pop("metadata")
            document["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] = "tidegate"
        stripped[document["kind"], document["metadata"]["name"]] = document
    return stripped


def difference(left, right, path=""):
    if isinstance(left, dict) and isinstance(right, dict):
        return [found for key in left.keys() | right.keys()
                for found in difference(left.get(key), right.get(key), f"{path}.{key}")]
    return [] if left == right else [f"{path}: {left!r} and {right!r}"]


def render(values):
    with helm_python.Chart.load(str(CHART)) as chart:
        rendered = chart.render(values, name="tidegate", namespace="mqtt")
    return [document for name, text in rendered.items() if not name.endswith("NOTES.txt")
            for document in yaml.safe_load_all(text) if document]


def check_helm(tidegate):
    for name, values in VALUES.items():
        where = f"helm, {name}"
        report = helm_python.lint(str(CHART), values, strict=True, namespace="mqtt")
        # An icon would be nice.
        for message in report["messages"]:
            if message["severity"] > 1:
                miss(f"{where}: lint: {message['error']}")
        documents = render(values)
        validate(where, documents)
        references(where, documents)
        broker_selector(where, documents, values)
        text = next(document for document in documents if document["kind"] == "ConfigMap")["data"]["tidegate.toml"]
        configuration(where, text, tidegate)
    for values, word in REFUSED:
        try:
            render(values)
            miss(f"helm: {values} is taken")
        except helm_python.HelmError as error:
            if word not in str(error):
                miss(f"helm: {values} is refused without naming {word}: {error}")
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    if chart["appVersion"] != cargo:
        miss(f"helm: Chart.yaml says appVersion {chart['appVersion']}, Cargo.toml {cargo}")
    print(f"helm {helm_python.helm_sdk_version()}: {len(VALUES)} sets of values rendered, {len(REFUSED)} refused")


def check_kustomize(tidegate, kubectl):
    text = subprocess.run([kubectl, "kustomize", ROOT / "deploy/kubernetes"], capture_output=True, text=True, check=True).stdout
    documents = list(yaml.safe_load_all(text))
    validate("kustomize", documents)
    references("kustomize", documents)
    configuration("kustomize", next(d for d in documents if d["kind"] == "ConfigMap")["data"]["tidegate.toml"], tidegate)
    for found in difference(comparable(documents), comparable(render({}))):
        miss(f"deploy/kubernetes and the chart's defaults differ: {found}")
    print(f"kustomize: {len(documents)} objects, the same as the chart's defaults; schemas of Kubernetes {' and '.join(KUBERNETES)}")


def check_compose(tidegate):
    for file in ("compose.yaml", "compose.test.yaml"):
        text = (ROOT / "deploy" / file).read_text()
        # As compose does before it reads: variables take their defaults.
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
        # A range on the host for one port inside is good for both composes, and not for this parser.
        text = re.sub(r'"((?:[\d.]+:)?\d+)-\d+:(\d+)"', r'"\1:\2"', text)
        try:
            services = compose_spec.PyCompose.from_yaml(text).service_names()
            print(f"compose specification: {file}: {', '.join(services)}")
        except ValueError as error:
            miss(f"{file}: {error}")
    for file in ("deploy/compose/tidegate.toml", "deploy/image/tidegate.toml"):
        configuration(file, (ROOT / file).read_text(), tidegate)


def check_documents(tidegate):
    blocks = re.findall(r"^```toml\n(.*?)^```", (ROOT / "deploy/README.md").read_text(), re.MULTILINE | re.DOTALL)
    for number, text in enumerate(blocks, 1):
        configuration(f"deploy/README.md, example {number}", text, tidegate)
    print(f"deploy/README.md: {len(blocks)} examples checked")


def main(tidegate, kubectl):
    check_compose(tidegate)
    check_documents(tidegate)
    check_helm(tidegate)
    check_kustomize(tidegate, kubectl)
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
