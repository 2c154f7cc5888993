// stand-in is a plugin on NRI's Go stub; what it does is told by its name.
//
//	10-floor    does nothing: what the stub and the wire cost
//	10-devices  parses the annotations for devices and mounts, as a device injector must
//	10-hooks    holds hook definitions against the container, each pattern compiled anew
//
// It is ours, written for comparison where the Go project's own plugins cannot be had as modules.
// It does less than they do (no logging, no checks), so it is a lower bound of a Go plugin's cost
// and never a measurement of theirs.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"sigs.k8s.io/yaml"
)

var hookDirectories = []string{"/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"}

type inject func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, error)

type plugin struct{ inject inject }

func (p *plugin) CreateContainer(
	_ context.Context, pod *api.PodSandbox, container *api.Container,
) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	adjustment, err := p.inject(pod, container)
	return adjustment, nil, err
}

func main() {
	chosen, err := choose(os.Getenv("NRI_PLUGIN_NAME"))
	if err != nil {
		fail(err)
	}
	served, err := stub.New(&plugin{chosen})
	if err != nil {
		fail(err)
	}
	if err := served.Run(context.Background()); err != nil {
		fail(err)
	}
}

func choose(name string) (inject, error) {
	switch name {
	case "floor":
		return nothing, nil
	case "devices":
		return devices, nil
	case "hooks":
		definitions, err := load(hookDirectories)
		return definitions.inject, err
	}
	return nil, fmt.Errorf("NRI_PLUGIN_NAME is %q; floor, devices or hooks expected", name)
}

func nothing(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, error) {
	return nil, nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "stand-in:", err)
	os.Exit(1)
}

// --- devices and mounts --------------------------------------------------------------------------

type device struct {
	Path  string `json:"path"`
	Type  string `json:"type"`
	Major int64  `json:"major"`
	Minor int64  `json:"minor"`
}

type mount struct {
	Source      string   `json:"source"`
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Options     []string `json:"options"`
}

func devices(pod *api.PodSandbox, container *api.Container) (*api.ContainerAdjustment, error) {
	var wantedDevices []device
	var wantedMounts []mount
	adjustment := &api.ContainerAdjustment{}
	if err := read(pod, container, "devices.noderesource.dev", &wantedDevices); err != nil {
		return nil, err
	}
	if err := read(pod, container, "mounts.noderesource.dev", &wantedMounts); err != nil {
		return nil, err
	}
	for _, d := range wantedDevices {
		adjustment.AddDevice(&api.LinuxDevice{
			Path: d.Path, Type: d.Type, Major: d.Major, Minor: d.Minor,
		})
	}
	for _, m := range wantedMounts {
		adjustment.AddMount(&api.Mount{
			Source: m.Source, Destination: m.Destination, Type: m.Type, Options: m.Options,
		})
	}
	return adjustment, nil
}

func read(pod *api.PodSandbox, container *api.Container, prefix string, into any) error {
	for _, key := range []string{prefix + "/container." + container.Name, prefix + "/pod", prefix} {
		if text, ok := pod.Annotations[key]; ok {
			return yaml.Unmarshal([]byte(text), into)
		}
	}
	return nil
}

// --- hooks ---------------------------------------------------------------------------------------

type definition struct {
	Hook struct {
		Path    string   `json:"path"`
		Args    []string `json:"args"`
		Env     []string `json:"env"`
		Timeout *int64   `json:"timeout"`
	} `json:"hook"`
	When struct {
		Annotations map[string]string `json:"annotations"`
		Commands    []string          `json:"commands"`
	} `json:"when"`
	Stages []string `json:"stages"`
}

type definitions []definition

func load(directories []string) (definitions, error) {
	var all definitions
	for _, directory := range directories {
		files, err := filepath.Glob(filepath.Join(directory, "*.json"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			var one definition
			if err := json.Unmarshal(text, &one); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			all = append(all, one)
		}
	}
	return all, nil
}

func (all definitions) inject(
	pod *api.PodSandbox, container *api.Container,
) (*api.ContainerAdjustment, error) {
	annotations := map[string]string{}
	for _, from := range []map[string]string{container.Annotations, pod.Annotations} {
		for key, value := range from {
			annotations[key] = value
		}
	}
	hooks := &api.Hooks{}
	matched := false
	for _, one := range all {
		fits, err := one.fits(annotations, container.Args)
		if err != nil {
			return nil, err
		}
		if fits {
			one.addTo(hooks)
			matched = true
		}
	}
	if !matched {
		return nil, nil
	}
	adjustment := &api.ContainerAdjustment{}
	adjustment.AddHooks(hooks)
	return adjustment, nil
}

// fits compiles each pattern once for each container, when it gets to it.
func (d *definition) fits(annotations map[string]string, args []string) (bool, error) {
	for keyPattern, valuePattern := range d.When.Annotations {
		key, err := regexp.Compile(keyPattern)
		if err != nil {
			return false, err
		}
		value, err := regexp.Compile(valuePattern)
		if err != nil {
			return false, err
		}
		if !anyFits(annotations, key, value) {
			return false, nil
		}
	}
	if len(d.When.Commands) == 0 {
		return true, nil
	}
	if len(args) == 0 {
		return false, fmt.Errorf("container without a command")
	}
	for _, pattern := range d.When.Commands {
		command, err := regexp.Compile(pattern)
		if err != nil {
			return false, err
		}
		if command.MatchString(args[0]) {
			return true, nil
		}
	}
	return false, nil
}

func anyFits(annotations map[string]string, key, value *regexp.Regexp) bool {
	for k, v := range annotations {
		if key.MatchString(k) && value.MatchString(v) {
			return true
		}
	}
	return false
}

func (d *definition) addTo(hooks *api.Hooks) {
	hook := &api.Hook{Path: d.Hook.Path, Args: d.Hook.Args, Env: d.Hook.Env}
	if d.Hook.Timeout != nil {
		hook.Timeout = api.Int(*d.Hook.Timeout)
	}
	for _, stage := range d.Stages {
		switch strings.ToLower(stage) {
		case "prestart":
			hooks.Prestart = append(hooks.Prestart, hook)
		case "createruntime":
			hooks.CreateRuntime = append(hooks.CreateRuntime, hook)
		case "createcontainer":
			hooks.CreateContainer = append(hooks.CreateContainer, hook)
		case "startcontainer":
			hooks.StartContainer = append(hooks.StartContainer, hook)
		case "poststart":
			hooks.Poststart = append(hooks.Poststart, hook)
		case "poststop":
			hooks.Poststop = append(hooks.Poststop, hook)
		}
	}
}
