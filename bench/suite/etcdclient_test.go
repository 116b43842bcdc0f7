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
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
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
	values   map[string][]byte
	stale    uint64 // serializable reads
	compact  int64  // the last compaction's revision
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
		f.values[string(p.Key)] = p.Value
	}
	return f.refuse
}

func (f *fakeKV) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	if r.Serializable {
		f.stale++
	}
	answer := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: int64(len(f.keys))}}
	if value, ok := f.values[string(r.Key)]; ok {
		answer.Kvs = append(answer.Kvs, &mvccpb.KeyValue{Key: r.Key, Value: value})
	}
	return answer, f.refuse
}

func (f *fakeKV) Compact(_ context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !r.Physical {
		f.wrong = append(f.wrong, "a compaction that is not physical")
	}
	f.compact = r.Revision
	return &pb.CompactionResponse{}, nil
}

// serveKV serves f on a free port and returns the URL.
func serveKV(t *testing.T, f *fakeKV) string {
	t.Helper()
	f.keys, f.values = map[string]int{}, map[string][]byte{}
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
		f = append(f, newEtcdClient(endpoint, putter(uint64(i), batch)))
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

func TestEtcdReadsOfKeysThatWerePut(t *testing.T) {
	kv := &fakeKV{}
	endpoint := serveKV(t, kv)
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Context: t.Context()})
	if err != nil {
		t.Fatal(err)
	}
	const n = 250
	told := 0
	if err := seedEtcd(t.Context(), c, n, func(int) { told++ }); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if len(kv.keys) != n || kv.compact != n || told != 3 || len(kv.wrong) > 0 {
		t.Fatalf("%d keys, compacted at %d, told %d times, %v", len(kv.keys), kv.compact, told, kv.wrong)
	}
	for _, stale := range []bool{false, true} {
		kv.requests, kv.stale = 0, 0
		longEnough(t, func(d time.Duration) bool {
			got := load(t, fleet{newEtcdClient(endpoint, getter(n, stale))}, d)
			if got.errors > 0 {
				t.Errorf("stale %v: %d errors, first %v", stale, got.errors, got.first)
			}
			return got.answered > 0
		})
		if want := map[bool]uint64{false: 0, true: kv.requests}[stale]; kv.stale != want {
			t.Errorf("%d of %d reads are serializable, wanted %d", kv.stale, kv.requests, want)
		}
	}
	// Keys from n on do not exist.
	got := load(t, fleet{newEtcdClient(endpoint, getter(1<<62, false))}, 50*time.Millisecond)
	if got.answered != 0 || got.errors == 0 || !strings.Contains(got.first.Error(), "0 values") {
		t.Errorf("%d answered, %d errors, first %v", got.answered, got.errors, got.first)
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
