"""The keys of a cluster: one authority, a certificate for each part, and files for kubectl."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

SERVER = "https://{address}:6443"
EXTENSIONS = """\
basicConstraints = CA:FALSE
keyUsage = digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = {names}
"""
CLIENTS = {
    "admin": "/O=system:masters/CN=admin",
    "controller-manager": "/CN=system:kube-controller-manager",
    "kubelet": "/O=system:nodes/CN=system:node:{node}",
    "scheduler": "/CN=system:kube-scheduler",
}


def write_keys(directory: Path, node: str, address: str, service: str) -> None:
    """Write all keys and files of a cluster with one node.

    `address` is that of the node, and `service` that of the API server among the services.
    """
    directory.mkdir(mode=0o700)
    _openssl(
        directory,
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=cluster"),
        *("-keyout", "ca.key", "-out", "ca.crt"),
    )
    names = f"IP:127.0.0.1,IP:{address},IP:{service},DNS:{node},DNS:kubernetes.default.svc"
    _issue(directory, "apiserver", "/O=system:masters/CN=apiserver", names)
    for name, subject in CLIENTS.items():
        _issue(directory, name, subject.format(node=node), names)
        _write_config(directory, name, SERVER.format(address=address))
    _openssl(directory, "genrsa", "-out", "accounts.key", "2048")
    _openssl(directory, "rsa", "-in", "accounts.key", "-pubout", "-out", "accounts.pub")


def _issue(directory: Path, name: str, subject: str, names: str) -> None:
    (directory / "extensions").write_text(EXTENSIONS.format(names=names))
    _openssl(
        directory,
        *("req", "-newkey", "rsa:2048", "-nodes", "-subj", subject),
        *("-keyout", f"{name}.key", "-out", "request"),
    )
    _openssl(
        directory,
        *("x509", "-req", "-in", "request", "-out", f"{name}.crt", "-extfile", "extensions"),
        *("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
    )


def _write_config(directory: Path, name: str, server: str) -> None:
    """Write a client's configuration; JSON is YAML."""
    key, certificate = directory / f"{name}.key", directory / f"{name}.crt"
    cluster = {"server": server, "certificate-authority": str(directory / "ca.crt")}
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": "cluster", "user": name}}],
        "current-context": name,
    }
    (directory / f"{name}.conf").write_text(json.dumps(config))


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)
