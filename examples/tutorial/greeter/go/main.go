// The greeter in Go, served by HashiCorp's go-plugin. The host is the same; only its command differs.
package main

import (
	"context"
	"os"
	"sync"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

var greetings = map[string]string{"English": "Hello", "French": "Bonjour"}

type greeter struct {
	UnimplementedGreeterServer
	mutex    sync.Mutex
	language string
}

func (g *greeter) Configure(_ context.Context, settings *Settings) (*Configured, error) {
	if _, known := greetings[settings.Language]; !known {
		return nil, status.Errorf(codes.InvalidArgument, "no greeting in %q", settings.Language)
	}
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.language = settings.Language
	return &Configured{}, nil
}

func (g *greeter) Greet(_ context.Context, person *Person) (*Greeting, error) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.language == "" {
		return nil, status.Error(codes.FailedPrecondition, "call Configure first")
	}
	return &Greeting{Text: greetings[g.language] + ", " + person.Name + "!"}, nil
}

type greeterPlugin struct{ plugin.NetRPCUnsupportedPlugin }

func (*greeterPlugin) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	RegisterGreeterServer(server, &greeter{language: os.Getenv("GREETER_LANGUAGE")})
	reflection.Register(server)
	return nil
}

func (*greeterPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (interface{}, error) {
	return nil, nil // the host is not in Go
}

func main() {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion:  1,
			MagicCookieKey:   "PLUGIN_MAGIC_COOKIE",
			MagicCookieValue: "greeter-5d1c",
		},
		Plugins:    plugin.PluginSet{"greeter": &greeterPlugin{}},
		GRPCServer: plugin.DefaultGRPCServer,
		Logger:     hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr}),
	})
}
