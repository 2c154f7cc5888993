// floor is the least that a plugin can be: a blocking read, a constant answer, a blocking write.
//
// It decodes nothing but the lengths of frames and messages, so what a container waits for it is
// what the runtime and the kernel cost, and no plugin on any stub can be faster. A runtime
// launches it, with the connection as descriptor 3.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
)

const (
	connection     = 3
	pluginChannel  = 1
	runtimeChannel = 2
	frameHeader    = 8  // channel, length
	messageHeader  = 10 // length, stream, type, flags
	request        = 1
	response       = 2
)

func main() {
	register, err := proto.Marshal(&api.RegisterPluginRequest{
		PluginName: os.Getenv("NRI_PLUGIN_NAME"), PluginIdx: os.Getenv("NRI_PLUGIN_IDX"),
	})
	check(err)
	envelope, err := proto.Marshal(&ttrpc.Request{
		Service: "nri.pkg.api.v1alpha1.Runtime", Method: "RegisterPlugin", Payload: register,
	})
	check(err)
	write(message(runtimeChannel, 1, request, envelope))
	configured, err := proto.Marshal(&api.ConfigureResponse{
		Events: 1 << (api.Event_CREATE_CONTAINER - 1),
	})
	check(err)
	serve(configured)
}

// serve answers Configure, which is the first call, and every later one with nothing.
func serve(configured []byte) {
	payload := configured
	var stream []byte            // the plugin channel's bytes that are not answered yet
	frame := make([]byte, 8<<20) // longer than any frame; untouched pages cost nothing
	kept := 0
	for {
		count, err := syscall.Read(connection, frame[kept:])
		if err != nil || count == 0 {
			return
		}
		kept += count
		kept, stream = demultiplex(frame, kept, stream)
		for len(stream) >= messageHeader {
			end := messageHeader + int(binary.BigEndian.Uint32(stream))
			if len(stream) < end {
				break
			}
			data, err := proto.Marshal(&ttrpc.Response{Payload: payload})
			check(err)
			write(message(pluginChannel, binary.BigEndian.Uint32(stream[4:]), response, data))
			payload, stream = nil, stream[end:]
		}
	}
}

// demultiplex moves whole frames of the plugin's channel from the buffer to the stream.
func demultiplex(frame []byte, kept int, stream []byte) (int, []byte) {
	at := 0
	for kept-at >= frameHeader {
		end := at + frameHeader + int(binary.BigEndian.Uint32(frame[at+4:]))
		if kept < end {
			break
		}
		if binary.BigEndian.Uint32(frame[at:]) == pluginChannel {
			stream = append(stream, frame[at+frameHeader:end]...)
		}
		at = end
	}
	return copy(frame, frame[at:kept]), stream
}

func message(channel, stream uint32, kind byte, data []byte) []byte {
	bytes := binary.BigEndian.AppendUint32(nil, channel)
	bytes = binary.BigEndian.AppendUint32(bytes, uint32(messageHeader+len(data)))
	bytes = binary.BigEndian.AppendUint32(bytes, uint32(len(data)))
	bytes = binary.BigEndian.AppendUint32(bytes, stream)
	return append(append(bytes, kind, 0), data...)
}

func write(bytes []byte) {
	for len(bytes) > 0 {
		count, err := syscall.Write(connection, bytes)
		check(err)
		bytes = bytes[count:]
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}
