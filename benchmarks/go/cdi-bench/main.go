// cdi-bench loads directories of CDI specs with the Go library of CDI and injects two devices.
//
//	cdi-bench REPEATS DEVICE DEVICE DIRECTORY...
//
// It prints one JSON object with the keys that benchmarks/cdi_child.py prints too.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	oci "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

type result struct {
	Library   string  `json:"library"`
	Devices   int     `json:"devices"`
	Errors    int     `json:"errors"`
	Load      float64 `json:"load_ms"`
	P50       float64 `json:"resolve_p50_us"`
	P99       float64 `json:"resolve_p99_us"`
	IdleRSS   int     `json:"rss_before_kb"`
	LoadedRSS int     `json:"rss_loaded_kb"`
	RSS       int     `json:"rss_end_kb"`
}

func main() {
	if len(os.Args) < 5 {
		fail(fmt.Errorf("usage: cdi-bench REPEATS DEVICE DEVICE DIRECTORY..."))
	}
	repeats, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fail(err)
	}
	wanted, directories := os.Args[2:4], os.Args[4:]

	measured := result{Library: library(), IdleRSS: resident()}
	start := time.Now()
	// As a runtime does: the directories are watched, and the cache refreshes itself.
	cache, err := cdi.NewCache(cdi.WithSpecDirs(directories...))
	if err != nil {
		fail(err)
	}
	measured.Devices = len(cache.ListDevices())
	measured.Load = float64(time.Since(start).Nanoseconds()) / 1e6
	measured.Errors = len(cache.GetErrors())
	measured.LoadedRSS = resident()

	times := make([]float64, repeats)
	for i := range times {
		spec := containerSpec()
		start := time.Now()
		if _, err := cache.InjectDevices(spec, wanted...); err != nil {
			fail(err)
		}
		times[i] = float64(time.Since(start).Nanoseconds()) / 1e3
	}
	slices.Sort(times)
	measured.P50 = times[len(times)/2]
	measured.P99 = times[len(times)*99/100]
	measured.RSS = resident()
	if err := json.NewEncoder(os.Stdout).Encode(measured); err != nil {
		fail(err)
	}
}

func containerSpec() *oci.Spec {
	spec := &oci.Spec{Process: &oci.Process{}, Linux: &oci.Linux{}}
	for i := range 30 {
		spec.Process.Env = append(spec.Process.Env, fmt.Sprintf("VARIABLE_%d=some value of it", i))
	}
	for i := range 12 {
		spec.Mounts = append(spec.Mounts, oci.Mount{
			Destination: fmt.Sprintf("/mnt/%d", i),
			Source:      fmt.Sprintf("/srv/%d", i),
			Type:        "bind",
			Options:     []string{"rbind"},
		})
	}
	return spec
}

func library() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "tags.cncf.io/container-device-interface" {
				return module.Version
			}
		}
	}
	return "unknown"
}

func resident() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fail(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kilobytes, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				fail(err)
			}
			return kilobytes
		}
	}
	return 0
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "cdi-bench:", err)
	os.Exit(1)
}
