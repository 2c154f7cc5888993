// every-event is a plugin on NRI's Go stub that handles every event there is. The tests of our
// runtime side drive it: it writes a line for each event into the file that its configuration names.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
)

type plugin struct {
	stub stub.Stub
	file string
}

func main() {
	p := &plugin{}
	served, err := stub.New(p)
	if err == nil {
		p.stub = served
		err = served.Run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "every-event:", err)
		os.Exit(1)
	}
}

func (p *plugin) say(format string, arguments ...any) error {
	file, err := os.OpenFile(p.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = fmt.Fprintf(file, format+"\n", arguments...)
	return err
}

func (p *plugin) Configure(_ context.Context, config, runtime, version string) (api.EventMask, error) {
	p.file = strings.TrimSpace(config)
	return 0, p.say("Configure %s %s", runtime, version)
}

func (p *plugin) Synchronize(
	_ context.Context, pods []*api.PodSandbox, containers []*api.Container,
) ([]*api.ContainerUpdate, error) {
	return nil, p.say("Synchronize %d %d", len(pods), len(containers))
}

func (p *plugin) RunPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.say("RunPodSandbox %s", pod.Name)
}

func (p *plugin) UpdatePodSandbox(
	_ context.Context, pod *api.PodSandbox, _, resources *api.LinuxResources,
) error {
	return p.say("UpdatePodSandbox %s %s", pod.Name, resources.GetCpu().GetCpus())
}

func (p *plugin) PostUpdatePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.say("PostUpdatePodSandbox %s", pod.Name)
}

func (p *plugin) StopPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.say("StopPodSandbox %s", pod.Name)
}

func (p *plugin) RemovePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.say("RemovePodSandbox %s", pod.Name)
}

func (p *plugin) CreateContainer(
	_ context.Context, _ *api.PodSandbox, container *api.Container,
) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	if container.Name == "refused" {
		return nil, nil, fmt.Errorf("container %s may not be", container.Name)
	}
	adjustment := &api.ContainerAdjustment{}
	adjustment.AddEnv("GO", strings.Repeat("x", len(container.Args[0])))
	adjustment.AddDevice(&api.LinuxDevice{Path: "/dev/go", Type: "c", Major: 1, Minor: 3})
	return adjustment, nil, p.say("CreateContainer %s", container.Name)
}

func (p *plugin) PostCreateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	return p.say("PostCreateContainer %s", c.Name)
}

func (p *plugin) StartContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	return p.say("StartContainer %s", c.Name)
}

// PostStartContainer asks for an update from elsewhere: waiting for it here would be a deadlock.
func (p *plugin) PostStartContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	update := &api.ContainerUpdate{ContainerId: c.Id}
	update.SetLinuxCPUShares(77)
	go func() {
		failed, err := p.stub.UpdateContainers([]*api.ContainerUpdate{update})
		_ = p.say("UpdateContainers %d %v", len(failed), err)
	}()
	return p.say("PostStartContainer %s", c.Name)
}

func (p *plugin) UpdateContainer(
	_ context.Context, _ *api.PodSandbox, container *api.Container, _ *api.LinuxResources,
) ([]*api.ContainerUpdate, error) {
	update := &api.ContainerUpdate{ContainerId: container.Id}
	update.SetLinuxMemoryLimit(4096)
	return []*api.ContainerUpdate{update}, p.say("UpdateContainer %s", container.Name)
}

func (p *plugin) PostUpdateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	return p.say("PostUpdateContainer %s", c.Name)
}

func (p *plugin) StopContainer(
	_ context.Context, _ *api.PodSandbox, container *api.Container,
) ([]*api.ContainerUpdate, error) {
	return nil, p.say("StopContainer %s", container.Name)
}

func (p *plugin) RemoveContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	return p.say("RemoveContainer %s", c.Name)
}

func (p *plugin) ValidateContainerAdjustment(
	_ context.Context, request *api.ValidateContainerAdjustmentRequest,
) error {
	if request.Container.Name == "forbidden" {
		return fmt.Errorf("container %s is forbidden", request.Container.Name)
	}
	return p.say("ValidateContainerAdjustment %s %d", request.Container.Name, len(request.Plugins))
}
