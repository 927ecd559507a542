// The counter of fsm_conn/demo, which has its sums done by a service of its host, and serves a browser by the broker: what
// go-plugin's example `bidirectional` shows, in both directions.
package main

import (
	"context"
	"sort"
	"sync"

	"github.com/golang/protobuf/proto"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

type PutRequest struct {
	Key   string `protobuf:"bytes,1,opt,name=key,proto3"`
	Value int64  `protobuf:"varint,2,opt,name=value,proto3"`
	Adder uint32 `protobuf:"varint,3,opt,name=adder,proto3"`
}

type Key struct {
	Key string `protobuf:"bytes,1,opt,name=key,proto3"`
}

type Value struct {
	Value int64 `protobuf:"varint,1,opt,name=value,proto3"`
}

type Service struct {
	Id uint32 `protobuf:"varint,1,opt,name=id,proto3"`
}

type SumRequest struct {
	A int64 `protobuf:"varint,1,opt,name=a,proto3"`
	B int64 `protobuf:"varint,2,opt,name=b,proto3"`
}

type Nothing struct{}

type Entry struct {
	Key   string `protobuf:"bytes,1,opt,name=key,proto3"`
	Value int64  `protobuf:"varint,2,opt,name=value,proto3"`
}

func (m *PutRequest) Reset()         { *m = PutRequest{} }
func (m *PutRequest) String() string { return proto.CompactTextString(m) }
func (*PutRequest) ProtoMessage()    {}
func (m *Key) Reset()                { *m = Key{} }
func (m *Key) String() string        { return proto.CompactTextString(m) }
func (*Key) ProtoMessage()           {}
func (m *Value) Reset()              { *m = Value{} }
func (m *Value) String() string      { return proto.CompactTextString(m) }
func (*Value) ProtoMessage()         {}
func (m *Service) Reset()            { *m = Service{} }
func (m *Service) String() string    { return proto.CompactTextString(m) }
func (*Service) ProtoMessage()       {}
func (m *SumRequest) Reset()         { *m = SumRequest{} }
func (m *SumRequest) String() string { return proto.CompactTextString(m) }
func (*SumRequest) ProtoMessage()    {}
func (m *Nothing) Reset()            { *m = Nothing{} }
func (m *Nothing) String() string    { return proto.CompactTextString(m) }
func (*Nothing) ProtoMessage()       {}
func (m *Entry) Reset()              { *m = Entry{} }
func (m *Entry) String() string      { return proto.CompactTextString(m) }
func (*Entry) ProtoMessage()         {}

type counter struct {
	broker *plugin.GRPCBroker
	mutex  sync.Mutex
	values map[string]int64
	adders map[uint32]*grpc.ClientConn
}

// dial connects to what the host serves under a number, once: each number can be dialled only once.
func (c *counter) dial(id uint32) (*grpc.ClientConn, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if conn, ok := c.adders[id]; ok {
		return conn, nil
	}
	conn, err := c.broker.Dial(id)
	if err == nil {
		c.adders[id] = conn
	}
	return conn, err
}

func (c *counter) put(ctx context.Context, request *PutRequest) (*Value, error) {
	conn, err := c.dial(request.Adder)
	if err != nil {
		return nil, err
	}
	sum := new(Value)
	c.mutex.Lock()
	old := c.values[request.Key]
	c.mutex.Unlock()
	if err := conn.Invoke(ctx, "/counter.Adder/Sum", &SumRequest{A: old, B: request.Value}, sum); err != nil {
		return nil, err
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.values[request.Key] = sum.Value
	return sum, nil
}

func (c *counter) get(key *Key) (*Value, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return &Value{Value: c.values[key.Key]}, nil
}

func (c *counter) browse(wanted *Service) (*Service, error) {
	id := wanted.Id
	if id == 0 {
		id = c.broker.NextId()
	}
	go c.broker.AcceptAndServe(id, func(options []grpc.ServerOption) *grpc.Server {
		server := grpc.NewServer(options...)
		server.RegisterService(c.browser(), struct{}{})
		return server
	})
	return &Service{Id: id}, nil
}

func (c *counter) entries(_ interface{}, stream grpc.ServerStream) error {
	if err := stream.RecvMsg(new(Nothing)); err != nil {
		return err
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	keys := make([]string, 0, len(c.values))
	for key := range c.values {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		if err := stream.SendMsg(&Entry{Key: key, Value: c.values[key]}); err != nil {
			return err
		}
	}
	return nil
}

func (c *counter) browser() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "counter.Browser",
		HandlerType: (*interface{})(nil),
		Streams:     []grpc.StreamDesc{{StreamName: "Entries", Handler: c.entries, ServerStreams: true}},
	}
}

type decoder = func(interface{}) error

func unary(name string, handle func(context.Context, decoder) (interface{}, error)) grpc.MethodDesc {
	handler := func(_ interface{}, ctx context.Context, decode func(interface{}) error, _ grpc.UnaryServerInterceptor) (interface{}, error) {
		return handle(ctx, decode)
	}
	return grpc.MethodDesc{MethodName: name, Handler: handler}
}

func counting(broker *plugin.GRPCBroker) *grpc.ServiceDesc {
	c := &counter{broker: broker, values: map[string]int64{}, adders: map[uint32]*grpc.ClientConn{}}
	return &grpc.ServiceDesc{
		ServiceName: "counter.Counter",
		HandlerType: (*interface{})(nil),
		Methods: []grpc.MethodDesc{
			unary("Put", func(ctx context.Context, decode decoder) (interface{}, error) {
				request := new(PutRequest)
				if err := decode(request); err != nil {
					return nil, err
				}
				return c.put(ctx, request)
			}),
			unary("Get", func(_ context.Context, decode decoder) (interface{}, error) {
				key := new(Key)
				if err := decode(key); err != nil {
					return nil, err
				}
				return c.get(key)
			}),
			unary("Browse", func(_ context.Context, decode decoder) (interface{}, error) {
				wanted := new(Service)
				if err := decode(wanted); err != nil {
					return nil, err
				}
				return c.browse(wanted)
			}),
		},
	}
}
