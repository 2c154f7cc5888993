"""Draw how a pod gets its device: `python docs/pictures/request.py` writes request.svg."""

from __future__ import annotations

from pathlib import Path

from drawing import arrow, box, document

HERE = Path(__file__).parent
WIDTH, HEIGHT = 960, 330


def picture() -> str:
    """Return the drawing."""
    parts = [
        *box(20, 40, 190, 92, "pod", "The annotation devices.noderesource.dev requests /dev/fuse"),
        *box(270, 40, 150, 92, "kubelet", "Hands the annotations on to the runtime, over CRI"),
        *box(480, 40, 190, 92, "containerd, CRI-O", "Asks its NRI plugins before it creates it"),
        *box(740, 40, 200, 92, "container", "Has /dev/fuse, may open it, and is not privileged"),
        *box(400, 210, 350, 100, "nri-inject", NRI_INJECT),
        *box(20, 210, 290, 100, "files of the node's admin", FILES),
        *arrow("M210 86H264"),
        *arrow("M420 86H474"),
        *arrow("M670 86H734", "creates", (680, 78)),
        *arrow("M545 132V204", "1 pod and container", (425, 172)),
        *arrow("M610 210V138", "2 adjustment, or an error", (620, 172)),
        *arrow("M310 260H394", "read", (338, 252)),
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
    "/etc/nri-inject/policy.yaml says who may have what. CDI specs in /etc/cdi and /var/run/cdi."
    " OCI hooks in /etc/containers/oci/hooks.d"
)


if __name__ == "__main__":
    (HERE / "request.svg").write_text(picture())
