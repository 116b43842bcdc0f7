package httpapi

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestUnsent checks that the bytes that a client has not acknowledged are counted.
func TestUnsent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if n := unsent(server); n != 0 {
		t.Errorf("%d bytes before the first write", n)
	}
	much, written := make([]byte, 64<<20), 0 // more than the kernels accept
	for wait := time.Second; written == 0; wait *= 2 {
		if err := server.SetWriteDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		if written, err = server.Write(much); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d bytes written: %v", written, err)
		}
	}
	if n := unsent(server); n <= 0 || n > int64(written) {
		t.Errorf("%d of %d bytes are not acknowledged", n, written)
	}
	if _, err := io.CopyN(io.Discard, client, int64(written)); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); unsent(server) != 0; time.Sleep(time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%d bytes are not acknowledged after the client has read all", unsent(server))
		}
	}
	if n := unsent(struct{ net.Conn }{server}); n != 0 {
		t.Errorf("%d bytes of a connection that is not a socket", n)
	}
}
