package suite

import (
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serveGRPC starts an HTTP/2 server without TLS that ends each call with the status and message that answer gives.
func serveGRPC(t *testing.T, answer func(message []byte) (status, text string)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: &protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		framed, err := io.ReadAll(r.Body)
		if err != nil || len(framed) < 5 || framed[0] != 0 || int(binary.BigEndian.Uint32(framed[1:])) != len(framed)-5 ||
			r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Te") != "trailers" || r.URL.Path != etcdPut {
			w.Header().Set("Grpc-Status", "13")
			w.Header().Set("Grpc-Message", "not gRPC")
			return
		}
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		w.Header().Set("Content-Type", "application/grpc")
		status, text := answer(framed[5:])
		if status == "0" {
			_, _ = w.Write(make([]byte, 5))
		}
		w.Header().Set("Grpc-Status", status)
		w.Header().Set("Grpc-Message", text)
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return listener.Addr().String()
}

// callers are clients of a server.
func callers(addr string, n int, next func() []byte) fleet {
	var f fleet
	for range n {
		f = append(f, &grpcClient{addr: addr, method: etcdPut, next: next})
	}
	return f
}

func TestCallsOfManySizes(t *testing.T) {
	for _, size := range []int{0, 1, 300, maxFrame, 30_000, defaultWindow - 5} {
		message := []byte(strings.Repeat("m", size))
		var n, wrong atomic.Uint64
		addr := serveGRPC(t, func(got []byte) (string, string) {
			n.Add(1)
			if string(got) != string(message) {
				wrong.Add(1)
			}
			return "0", ""
		})
		// Long enough that the windows, which the server has to open again and again, are used up many times.
		got := load(t, callers(addr, 2, func() []byte { return message }), 100*time.Millisecond)
		if got.errors > 0 || got.answered != n.Load() || got.answered == 0 || wrong.Load() > 0 {
			t.Errorf("%d bytes: %d answered, the server saw %d, %d wrong; %d errors, first %v",
				size, got.answered, n.Load(), wrong.Load(), got.errors, got.first)
		}
	}
}

func TestCallsThatFail(t *testing.T) {
	addr := serveGRPC(t, func([]byte) (string, string) { return "8", "no space" })
	got := load(t, callers(addr, 1, func() []byte { return []byte("x") }), 30*time.Millisecond)
	if got.answered != 0 || got.errors == 0 || got.first == nil || !strings.Contains(got.first.Error(), "status 8: no space") {
		t.Errorf("%d answered, %d errors, first %v", got.answered, got.errors, got.first)
	}
}

func TestCallsToNoGRPC(t *testing.T) {
	addr, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	got := load(t, callers(addr, 1, func() []byte { return []byte("x") }), 30*time.Millisecond)
	if got.answered != 0 || got.errors == 0 {
		t.Errorf("%d answered, %d errors", got.answered, got.errors)
	}
}
