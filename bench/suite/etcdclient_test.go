package suite

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fakeKV is etcd's key-value service. It keeps every key that was put, and counts the requests.
type fakeKV struct {
	pb.UnimplementedKVServer
	refuse error // of every request; nil for none

	mu       sync.Mutex // guards the fields below
	requests uint64
	puts     []int // of each request
	keys     map[string]int
	wrong    []string
}

func (f *fakeKV) Put(_ context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	return &pb.PutResponse{}, f.record(r)
}

func (f *fakeKV) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	var puts []*pb.PutRequest
	for _, op := range r.Success {
		puts = append(puts, op.GetRequestPut())
	}
	return &pb.TxnResponse{Succeeded: true}, f.record(puts...)
}

func (f *fakeKV) record(puts ...*pb.PutRequest) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	f.puts = append(f.puts, len(puts))
	for _, p := range puts {
		if len(p.Key) != 16 || isPayload(p.Value) != nil {
			f.wrong = append(f.wrong, p.String())
		}
		f.keys[string(p.Key)]++
	}
	return f.refuse
}

// serveKV serves f on a free port and returns the URL.
func serveKV(t *testing.T, f *fakeKV) string {
	t.Helper()
	f.keys = map[string]int{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, f)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return "http://" + listener.Addr().String()
}

// etcdClients returns n clients of one endpoint.
func etcdClients(endpoint string, n, batch int) fleet {
	var f fleet
	for i := range n {
		f = append(f, &etcdClient{endpoint: endpoint, puts: newEtcdPuts(uint64(i)), batch: batch})
	}
	return f
}

func TestEtcdRequests(t *testing.T) {
	for _, batch := range []int{1, 100} {
		kv := &fakeKV{}
		got := load(t, etcdClients(serveKV(t, kv), 2, batch), 100*time.Millisecond)
		kv.mu.Lock()
		defer kv.mu.Unlock()
		if got.errors > 0 || got.answered == 0 || got.answered != kv.requests {
			t.Errorf("batch %d: %d answered, the server saw %d; %d errors, first %v",
				batch, got.answered, kv.requests, got.errors, got.first)
		}
		for _, n := range kv.puts {
			if n != batch {
				t.Fatalf("batch %d: a request with %d puts", batch, n)
			}
		}
		if len(kv.wrong) > 0 {
			t.Errorf("batch %d: %d malformed puts, first %.80q", batch, len(kv.wrong), kv.wrong[0])
		}
		for key, n := range kv.keys {
			if n > 1 {
				t.Fatalf("batch %d: key %x was put %d times", batch, key, n)
			}
		}
	}
}

func TestEtcdKeysOfClientsDiffer(t *testing.T) {
	for client := range uint64(2) {
		p := newEtcdPuts(client)
		for count := range uint64(3) {
			key := p.next(1)[0].KeyBytes()
			if binary.BigEndian.Uint64(key) != client || binary.BigEndian.Uint64(key[8:]) != count {
				t.Errorf("client %d, put %d: key %x", client, count, key)
			}
		}
	}
}

func TestEtcdRefusalsAreErrors(t *testing.T) {
	endpoint := serveKV(t, &fakeKV{refuse: status.Error(codes.ResourceExhausted, "no space")})
	got := load(t, etcdClients(endpoint, 1, 1), 30*time.Millisecond)
	if got.answered != 0 || got.errors == 0 || got.first == nil || !strings.Contains(got.first.Error(), "no space") {
		t.Errorf("%d answered, %d errors, first %v", got.answered, got.errors, got.first)
	}
}

func TestEtcdClientOfAnotherServer(t *testing.T) {
	addr, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	f := etcdClients("http://"+addr, 1, 1)
	if err := f.connect(t.Context()); err == nil {
		t.Errorf("connected to a server that does not speak gRPC: %v", f.close())
	}
}
