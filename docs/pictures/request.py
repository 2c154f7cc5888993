"""Draw how a pod gets its device: `python docs/pictures/request.py` writes request.svg."""

from __future__ import annotations

from pathlib import Path

from drawing import arrow, box, document

HERE = Path(__file__).parent
WIDTH, HEIGHT = 760, 330


def picture() -> str:
    """Return the drawing."""
    parts = [
        *box(10, 10, 190, 96, "pod", "The annotation devices.noderesource.dev requests /dev/fuse"),
        *box(230, 10, 124, 96, "kubelet", "Passes the annotations on, over CRI"),
        *box(384, 10, 170, 96, "containerd, CRI-O", "Asks its NRI plugins first"),
        *box(622, 10, 128, 96, "container", "May open the device, not privileged"),
        *box(336, 196, 414, 124, "nri-inject", NRI_INJECT),
        *box(10, 196, 260, 124, "files of the node's admin", FILES),
        *arrow("M200 58H224"),
        *arrow("M354 58H378"),
        *arrow("M554 58H616", "creates", (562, 50)),
        *arrow("M450 106V190", "1 pod and container", (316, 154)),
        *arrow("M510 196V112", "2 adjustment, or an error", (520, 154)),
        *arrow("M270 258H330", "read", (284, 250)),
    ]
    label = (
        "The kubelet hands the pod's annotations to the runtime. The runtime asks nri-inject, which"
        " answers with an adjustment or an error, and creates the container"
    )
    return document(WIDTH, HEIGHT, label, parts)


NRI_INJECT = (
    "Reads the annotation. Looks at the device on the host. Asks the policy. Answers with the"
    " device, its numbers, mode and owner, or with a sentence for kubectl describe pod"
)
FILES = (
    "/etc/nri-inject/policy.yaml says who may have what. CDI specs are in /etc/cdi and"
    " /var/run/cdi, OCI hooks in /etc/containers/oci/hooks.d"
)


if __name__ == "__main__":
    (HERE / "request.svg").write_text(picture())
