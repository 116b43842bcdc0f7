package noderpc

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/certs/certstest"
)

// TestSilentHandshake calls a node that accepts connections and says nothing. The connection is closed after
// handshakeTimeout, also when the call has ended before.
func TestSilentHandshake(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for buf := make([]byte, 1024); err == nil; {
			_, err = conn.Read(buf)
		}
	}()
	transport := NewSecureTransport(certstest.Open(t, certstest.NewAuthority(t), certs.Master, "m1"), nil, certs.Master)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+listener.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transport.RoundTrip(r); err == nil {
		t.Error("an answer without a handshake")
	}
	select {
	case <-closed:
	case <-time.After(10 * handshakeTimeout):
		t.Error("the connection stays open")
	}
}

// TestPlainURL calls a URL that begins with http://. Nothing may be sent.
func TestPlainURL(t *testing.T) {
	transport := NewSecureTransport(certstest.Open(t, certstest.NewAuthority(t), certs.Master, "m1"), nil, certs.Master)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transport.RoundTrip(r); err == nil || !errors.Is(err, errPlain) {
		t.Errorf("%v", err)
	}
}
