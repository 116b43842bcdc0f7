package links

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// caller makes calls to a node of the same process. The answer to a request of a certain size has the size that
// answerSize returns.
type caller interface {
	call(ctx context.Context, request []byte) (answer []byte, err error)
}

// candidates connect a caller with a node that serves on a listener, until the test ends.
var candidates = []struct {
	name    string
	connect func(t testing.TB, l net.Listener) caller
}{
	{"http1", http1},            // a pool of connections; nothing is authenticated but by a token
	{"http2", http2},            // net/http
	{"grpc", grpcCalls},         // unary calls
	{"yamux", yamuxStreams},     // a stream for each call
	{"yamux-kept", yamuxPooled}, // streams that are used again
	{"frames", frames},          // numbered frames that are written together
}

// kinds are the calls between nodes, with the bytes of the request and of the answer.
var kinds = []struct {
	name            string
	request, answer int
	inFlight        []int
}{
	{"append", 256, 40, []int{1, 2, 64}},          // one append that a follower forwards
	{"submission", 6 << 10, 400, []int{1, 2, 64}}, // of ten appends of about 500 bytes
	{"read", 12, 1400, []int{1, 2, 64}},           // of one record of 1 KiB, with its proof
	{"block", 1 << 20, 100, []int{1}},
}

func answerSize(request int) int {
	for _, k := range kinds {
		if k.request == request {
			return k.answer
		}
	}
	panic(fmt.Sprintf("no kind of call has a request of %d bytes", request))
}

func listen(t testing.TB) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// run makes count calls, with so many in flight.
func run(t testing.TB, c caller, request []byte, count, inFlight int) {
	var left atomic.Int64
	left.Store(int64(count))
	var callers sync.WaitGroup
	for range inFlight {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				answer, err := c.call(ctx, request)
				cancel()
				if err != nil || len(answer) != answerSize(len(request)) {
					t.Errorf("an answer of %d bytes, error %v", len(answer), err)
					return
				}
			}
		})
	}
	callers.Wait()
}

// TestCandidates makes calls of all kinds with all candidates.
func TestCandidates(t *testing.T) {
	for _, c := range candidates {
		t.Run(c.name, func(t *testing.T) {
			calls := c.connect(t, listen(t))
			for _, k := range kinds {
				run(t, calls, make([]byte, k.request), 8, 4)
			}
		})
	}
}

// BenchmarkCalls measures the processor time of both sides for each call, and how often a thread of the process waited.
func BenchmarkCalls(b *testing.B) {
	for _, k := range kinds {
		for _, inFlight := range k.inFlight {
			for _, c := range candidates {
				b.Run(fmt.Sprintf("%s/%d/%s", k.name, inFlight, c.name), func(b *testing.B) {
					calls, request := c.connect(b, listen(b)), make([]byte, k.request)
					run(b, calls, request, inFlight, inFlight)
					b.ReportAllocs()
					b.ResetTimer()
					began, waits := usage(b)
					run(b, calls, request, b.N, inFlight)
					ended, waitsAfter := usage(b)
					b.ReportMetric(float64(ended-began)/float64(b.N)/1000, "cpu-µs/op")
					b.ReportMetric(float64(waitsAfter-waits)/float64(b.N), "waits/op")
				})
			}
		}
	}
}

// usage returns the processor time of this process, and how often its threads have waited.
func usage(b *testing.B) (cpu time.Duration, waits int64) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), u.Nvcsw
}
