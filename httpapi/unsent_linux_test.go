package httpapi

import (
	"io"
	"net"
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
	if err := server.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	written, err := server.Write(make([]byte, 64<<20)) // more than the kernels accept
	if err == nil {
		t.Fatal("the kernels accept all of it")
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
