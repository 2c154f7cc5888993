#!/bin/sh
# build.sh DIRECTORY: build Kubernetes' servers, at the version in go.mod, and a containerd.
set -eu
cd "$(dirname "$0")"
export CGO_ENABLED=0 GOFLAGS=-trimpath
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
major_minor=${version#v}
minor=${major_minor#*.}
flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags="$flags -X $package.gitVersion=$version -X $package.gitTreeState=clean"
    flags="$flags -X $package.gitMajor=${major_minor%%.*} -X $package.gitMinor=${minor%%.*}"
done
for program in kubelet kube-apiserver kube-controller-manager kube-scheduler; do
    echo "$(date +%T) building $program $version"
    go build -ldflags "$flags" -o "$1/$program" "k8s.io/kubernetes/cmd/$program"
done
containerd=github.com/containerd/containerd/v2/cmd
for program in containerd ctr containerd-shim-runc-v2; do
    echo "$(date +%T) building $program"
    GOBIN=$1 go install "$containerd/$program@v2.4.2"
done
echo "$(date +%T) done"
