// A plugin in Go for the tests: the calculator of fsm_conn/demo, served by HashiCorp's own go-plugin.
//
// It is built against Debian's golang-github-hashicorp-go-plugin-dev, without a network. Nothing here is generated: the
// messages are structs with the tags that golang/protobuf reads, and the descriptor that reflection shows is that of
// the Python demo, which the build puts beside this file.
//
// Beside the calculator it serves echo.Echo, which returns what it is sent, however large, and the counter of
// fsm_conn/demo, see counter.go.
//
//	-p384           automatic mTLS with a certificate on P-384 instead of go-plugin's own, which is on P-521
//	-p521           automatic mTLS as go-plugin has it from 1.4.4 on, so that the plugin can dial its host, too
//	-goodbye FILE   write FILE at the end
//	-chatty         log a line by hclog, as JSON
//	-tls DIRECTORY  TLS with certificates of its own
//	-versions       serve versions 5 and 6, the first without the counter
//	-no-reflection  serve without reflection, as most plugins in Go do
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/golang/protobuf/proto"
	"github.com/golang/protobuf/ptypes/wrappers"
	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

//go:embed calculator.desc
var descriptor []byte

type Operands struct {
	A float64 `protobuf:"fixed64,1,opt,name=a,proto3"`
	B float64 `protobuf:"fixed64,2,opt,name=b,proto3"`
}

type Number struct {
	Value float64 `protobuf:"fixed64,1,opt,name=value,proto3"`
}

type Limit struct {
	Limit int32 `protobuf:"varint,1,opt,name=limit,proto3"`
}

type Result struct {
	Result float64 `protobuf:"fixed64,1,opt,name=result,proto3"`
}

func (m *Operands) Reset()         { *m = Operands{} }
func (m *Operands) String() string { return proto.CompactTextString(m) }
func (*Operands) ProtoMessage()    {}
func (m *Number) Reset()           { *m = Number{} }
func (m *Number) String() string   { return proto.CompactTextString(m) }
func (*Number) ProtoMessage()      {}
func (m *Limit) Reset()            { *m = Limit{} }
func (m *Limit) String() string    { return proto.CompactTextString(m) }
func (*Limit) ProtoMessage()       {}
func (m *Result) Reset()           { *m = Result{} }
func (m *Result) String() string   { return proto.CompactTextString(m) }
func (*Result) ProtoMessage()      {}

type operation func(a, b float64) (float64, error)

func binary(name string, compute operation) grpc.MethodDesc {
	handler := func(_ interface{}, _ context.Context, decode func(interface{}) error, _ grpc.UnaryServerInterceptor) (interface{}, error) {
		operands := new(Operands)
		if err := decode(operands); err != nil {
			return nil, err
		}
		result, err := compute(operands.A, operands.B)
		return &Result{Result: result}, err
	}
	return grpc.MethodDesc{MethodName: name, Handler: handler}
}

func divide(a, b float64) (float64, error) {
	if b == 0 {
		return 0, status.Error(codes.InvalidArgument, "division by zero")
	}
	return a / b, nil
}

func count(_ interface{}, stream grpc.ServerStream) error {
	limit := new(Limit)
	if err := stream.RecvMsg(limit); err != nil {
		return err
	}
	for number := int32(1); number <= limit.Limit; number++ {
		if err := stream.SendMsg(&Result{Result: float64(number)}); err != nil {
			return err
		}
	}
	return nil
}

// add receives numbers until there are no more, and calls told with the sum so far after each.
func add(stream grpc.ServerStream, told func(sum float64) error) (float64, error) {
	sum := 0.0
	for {
		number := new(Number)
		if err := stream.RecvMsg(number); err == io.EOF {
			return sum, nil
		} else if err != nil {
			return 0, err
		}
		sum += number.Value
		if err := told(sum); err != nil {
			return 0, err
		}
	}
}

func sum(_ interface{}, stream grpc.ServerStream) error {
	total, err := add(stream, func(float64) error { return nil })
	if err != nil {
		return err
	}
	return stream.SendMsg(&Result{Result: total})
}

func accumulate(_ interface{}, stream grpc.ServerStream) error {
	_, err := add(stream, func(sum float64) error { return stream.SendMsg(&Result{Result: sum}) })
	return err
}

func echo(_ interface{}, _ context.Context, decode func(interface{}) error, _ grpc.UnaryServerInterceptor) (interface{}, error) {
	message := new(wrappers.BytesValue)
	return message, decode(message)
}

func calculator() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "calculator.Calculator",
		HandlerType: (*interface{})(nil),
		Methods: []grpc.MethodDesc{
			binary("Add", func(a, b float64) (float64, error) { return a + b, nil }),
			binary("Subtract", func(a, b float64) (float64, error) { return a - b, nil }),
			binary("Multiply", func(a, b float64) (float64, error) { return a * b, nil }),
			binary("Divide", divide),
		},
		Streams: []grpc.StreamDesc{
			{StreamName: "Count", Handler: count, ServerStreams: true},
			{StreamName: "Sum", Handler: sum, ClientStreams: true},
			{StreamName: "Accumulate", Handler: accumulate, ServerStreams: true, ClientStreams: true},
		},
		Metadata: zipped(descriptor),
	}
}

var echoes = &grpc.ServiceDesc{
	ServiceName: "echo.Echo",
	HandlerType: (*interface{})(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Echo", Handler: echo}},
}

// zipped is the form in which reflection takes a descriptor.
func zipped(data []byte) []byte {
	var buffer bytes.Buffer
	writer := gzip.NewWriter(&buffer)
	writer.Write(data)
	writer.Close()
	return buffer.Bytes()
}

type calculatorPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	reflection bool
}

// oldPlugin is an earlier version of it, without the counter.
type oldPlugin struct {
	calculatorPlugin
}

func (p *oldPlugin) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	server.RegisterService(calculator(), struct{}{})
	return nil
}

func (p *calculatorPlugin) GRPCServer(broker *plugin.GRPCBroker, server *grpc.Server) error {
	server.RegisterService(counting(broker), struct{}{})
	server.RegisterService(calculator(), struct{}{})
	server.RegisterService(echoes, struct{}{})
	if p.reflection {
		reflection.Register(server)
	}
	return nil
}

func (*calculatorPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (interface{}, error) {
	return nil, nil
}

// mtls is go-plugin's automatic mTLS, as it is from version 1.4.4 on, with any curve. Debian's go-plugin is older, and
// announces only certificates that it made itself, so this one is put at the end of the handshake line on its way to the
// host.
func mtls(curve elliptic.Curve) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "localhost"},
		DNSNames:              []string{"localhost"},
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		NotBefore:             time.Now().Add(-30 * time.Second),
		NotAfter:              time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM([]byte(os.Getenv("PLUGIN_CLIENT_CERT"))) {
		return nil, fmt.Errorf("PLUGIN_CLIENT_CERT holds no certificate")
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    clients,
		MinVersion:   tls.VersionTLS12,
		RootCAs:      clients,
		ServerName:   "localhost",
	}, announce(der)
}

// ownTLS is what a plugin does that brings its own certificates: cert.pem with key.pem, and those it trusts in host.pem.
func ownTLS(directory string) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(directory+"/cert.pem", directory+"/key.pem")
	if err != nil {
		return nil, err
	}
	trusted, err := os.ReadFile(directory + "/host.pem")
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(trusted)
	return &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    pool,
		RootCAs:      pool,
		ServerName:   "localhost",
	}, nil
}

func announce(der []byte) error {
	host := os.Stdout
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	os.Stdout = writer
	go func() {
		line, _ := bufio.NewReader(reader).ReadString('\n')
		fmt.Fprintf(host, "%s%s\n", strings.TrimSpace(line), base64.RawStdEncoding.EncodeToString(der))
	}()
	return nil
}

func main() {
	onP384 := flag.Bool("p384", false, "a certificate on P-384")
	onP521 := flag.Bool("p521", false, "a certificate on P-521, for both directions")
	silent := flag.Bool("no-reflection", false, "serve without reflection")
	goodbye := flag.String("goodbye", "", "a file to write at the end")
	ownCertificates := flag.String("tls", "", "a directory with certificates to serve with")
	versioned := flag.Bool("versions", false, "serve versions 5 and 6")
	chatty := flag.Bool("chatty", false, "log a line as JSON")
	flag.Parse()
	config := &plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion:  1,
			MagicCookieKey:   "PLUGIN_MAGIC_COOKIE",
			MagicCookieValue: "test_cookie_value", // what hosts give by default,
		},
		Plugins:    plugin.PluginSet{"calculator": &calculatorPlugin{reflection: !*silent}},
		GRPCServer: plugin.DefaultGRPCServer,
		Logger:     hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr}),
	}
	if *onP384 {
		config.TLSProvider = func() (*tls.Config, error) { return mtls(elliptic.P384()) }
	}
	if *onP521 {
		config.TLSProvider = func() (*tls.Config, error) { return mtls(elliptic.P521()) }
	}
	if *versioned {
		config.Plugins = nil
		config.VersionedPlugins = map[int]plugin.PluginSet{
			5: {"calculator": &oldPlugin{}},
			6: {"calculator": &calculatorPlugin{}},
		}
	}
	if *ownCertificates != "" {
		config.TLSProvider = func() (*tls.Config, error) { return ownTLS(*ownCertificates) }
	}
	if *chatty {
		config.Logger = hclog.New(&hclog.LoggerOptions{Name: "plugin", Level: hclog.Debug, JSONFormat: true})
		config.Logger.Named("store").Debug("counting", "from", 1, "to", "ten")
	}
	plugin.Serve(config)
	if *goodbye != "" {
		os.WriteFile(*goodbye, []byte("cleaned up"), 0600)
	}
}
