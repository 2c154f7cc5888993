// driver is a container runtime as far as NRI goes: NRI's own runtime adaptation, told what to do.
//
// It reads one JSON object a line from standard input and answers each with one:
//
//	{"do": "start", "peer": NAME, "plugins": DIR}     launch what is pre-installed in a directory
//	{"do": "connect", "peer": NAME, "command": [...]} run a command that connects to a socket
//	{"do": "play", "peer": NAME, "requests": [...], "times": N}   create containers, one by one;
//	                              with "timeout_ms" a plugin that takes longer is late
//	{"do": "stop", "peer": NAME}
//
// Each peer is an adaptation of its own, so that peers can take turns. Plugins are started when
// there are "pods" pods and "containers" containers, all of them as in "sample".
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/log"
	"google.golang.org/protobuf/proto"
)

const (
	runtimeName    = "containerd"
	runtimeVersion = "v2.2.0"
	patience       = time.Minute // a plugin that is late is measured, not dropped
)

type command struct {
	Do         string   `json:"do"`
	Peer       string   `json:"peer"`
	Plugins    string   `json:"plugins"`
	Config     string   `json:"config"`
	Command    []string `json:"command"`
	Socket     string   `json:"socket"`
	Pods       int      `json:"pods"`
	Containers int      `json:"containers"`
	Sample     []byte   `json:"sample"`
	Requests   [][]byte `json:"requests"` // as protobuf messages
	Times      int      `json:"times"`
	Timeout    int      `json:"timeout_ms"`
}

type answer struct {
	Error       string `json:"error,omitempty"`
	Launch      int64  `json:"launch_ns"`      // until the plugins are synchronized
	Synchronize int64  `json:"synchronize_ns"` // the last part of it
	Pids        []int  `json:"pids"`
	Waits       []int  `json:"waits_ns"` // what each container waited for
	Response    []byte `json:"response"` // the last answer to a request, as a protobuf message
}

type peer struct {
	runtime    *adaptation.Adaptation
	process    *exec.Cmd // of a plugin that connects by itself
	pods       []*api.PodSandbox
	containers []*api.Container
	synced     chan time.Duration
}

type quiet struct{}

func (quiet) Debugf(context.Context, string, ...any) {}
func (quiet) Infof(context.Context, string, ...any)  {}
func (quiet) Warnf(_ context.Context, format string, args ...any) {
	fmt.Fprintf(os.Stderr, "driver: "+format+"\n", args...)
}
func (q quiet) Errorf(ctx context.Context, format string, args ...any) { q.Warnf(ctx, format, args...) }

func main() {
	log.Set(quiet{})
	adaptation.SetPluginRequestTimeout(patience)
	adaptation.SetPluginRegistrationTimeout(patience)
	peers := map[string]*peer{}
	defer func() {
		for _, one := range peers {
			one.stop()
		}
	}()
	input, output := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	for {
		var told command
		if err := input.Decode(&told); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			fmt.Fprintln(os.Stderr, "driver:", err)
			return
		}
		said, err := do(peers, &told)
		if err != nil {
			said = &answer{Error: err.Error()}
		}
		if err := output.Encode(said); err != nil {
			return
		}
	}
}

func do(peers map[string]*peer, told *command) (*answer, error) {
	switch told.Do {
	case "start", "connect":
		one, said, err := start(told)
		if err == nil {
			peers[told.Peer] = one
		}
		return said, err
	case "play":
		if one, ok := peers[told.Peer]; ok {
			return one.play(told)
		}
		return nil, fmt.Errorf("no peer %q", told.Peer)
	case "stop":
		if one, ok := peers[told.Peer]; ok {
			one.stop()
			delete(peers, told.Peer)
		}
		return &answer{}, nil
	}
	return nil, fmt.Errorf("do %q: start, connect, play or stop expected", told.Do)
}

func start(told *command) (*peer, *answer, error) {
	one := &peer{synced: make(chan time.Duration, 2)}
	if err := one.populate(told); err != nil {
		return nil, nil, err
	}
	options := []adaptation.Option{
		adaptation.WithPluginPath(told.Plugins),
		adaptation.WithPluginConfigPath(told.Config),
	}
	if told.Do == "start" {
		options = append(options, adaptation.WithDisabledExternalConnections())
	} else {
		options = append(options, adaptation.WithSocketPath(told.Socket))
	}
	runtime, err := adaptation.New(runtimeName, runtimeVersion, one.synchronize, update, options...)
	if err != nil {
		return nil, nil, err
	}
	one.runtime = runtime
	before := children()
	began := time.Now()
	if err := runtime.Start(); err != nil {
		return nil, nil, err
	}
	if told.Do == "connect" {
		<-one.synced // what is pre-installed, which is nothing
		one.process = exec.Command(told.Command[0], told.Command[1:]...)
		if err := one.process.Start(); err != nil {
			return nil, nil, err
		}
	}
	var took time.Duration
	select {
	case took = <-one.synced:
	case <-time.After(patience):
		one.stop()
		return nil, nil, errors.New("the plugin was not synchronized in time")
	}
	launch := time.Since(began)
	runtime.BlockPluginSync().Unblock() // until the plugin is among those that are asked
	var pids []int
	for pid := range children() {
		if !before[pid] {
			pids = append(pids, pid)
		}
	}
	return one, &answer{
		Launch: launch.Nanoseconds(), Synchronize: took.Nanoseconds(), Pids: pids,
	}, nil
}

// populate makes the pods and containers that exist when the plugin starts.
func (p *peer) populate(told *command) error {
	var sample api.CreateContainerRequest
	if err := proto.Unmarshal(told.Sample, &sample); err != nil {
		return err
	}
	for i := range told.Pods {
		pod := proto.Clone(sample.Pod).(*api.PodSandbox)
		pod.Id, pod.Name = fmt.Sprintf("%064d", i), fmt.Sprintf("pod-%d", i)
		p.pods = append(p.pods, pod)
	}
	for i := range told.Containers {
		container := proto.Clone(sample.Container).(*api.Container)
		container.Id = fmt.Sprintf("%064d", i)
		container.PodSandboxId = p.pods[i%told.Pods].Id
		p.containers = append(p.containers, container)
	}
	return nil
}

func (p *peer) synchronize(ctx context.Context, synchronize adaptation.SyncCB) error {
	began := time.Now()
	_, err := synchronize(ctx, p.pods, p.containers)
	if err == nil {
		p.synced <- time.Since(began)
	}
	return err
}

func update(context.Context, []*api.ContainerUpdate) ([]*api.ContainerUpdate, error) {
	return nil, nil
}

func (p *peer) play(told *command) (*answer, error) {
	if told.Timeout > 0 {
		adaptation.SetPluginRequestTimeout(time.Duration(told.Timeout) * time.Millisecond)
		defer adaptation.SetPluginRequestTimeout(patience)
	}
	requests := make([]*api.CreateContainerRequest, len(told.Requests))
	for i, data := range told.Requests {
		requests[i] = &api.CreateContainerRequest{}
		if err := proto.Unmarshal(data, requests[i]); err != nil {
			return nil, err
		}
	}
	said := &answer{Waits: make([]int, told.Times)}
	var last *api.CreateContainerResponse
	for i := range told.Times {
		// The adaptation writes what plugins have adjusted into the request.
		request := proto.Clone(requests[i%len(requests)]).(*api.CreateContainerRequest)
		began := time.Now()
		response, err := p.runtime.CreateContainer(context.Background(), request)
		said.Waits[i] = int(time.Since(began).Nanoseconds())
		if err != nil {
			return nil, err
		}
		last = response
	}
	var err error
	said.Response, err = proto.Marshal(last)
	return said, err
}

func (p *peer) stop() {
	p.runtime.Stop()
	if p.process != nil {
		p.process.Process.Kill()
		p.process.Wait()
	}
}

// children returns the processes that this one has started, with whichever of its threads.
func children() map[int]bool {
	found := map[int]bool{}
	files, _ := filepath.Glob("/proc/self/task/*/children")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				found[pid] = true
			}
		}
	}
	return found
}
