package roles

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/certs/certstest"
	"github.com/chainstore/chainstore/wire"
)

// TestRequireEndsLongAnswers begins an answer without an end in plain text. It ends when the step requires TLS.
func TestRequireEndsLongAnswers(t *testing.T) {
	store := certstest.Open(t, certstest.NewAuthority(t), certs.Master, "m")
	mode, err := certs.OpenMode(t.TempDir(), true, true)
	if err != nil {
		t.Fatal(err)
	}
	advance := func(change uint64, step wire.TLSStep) {
		t.Helper()
		if err := mode.Advance(1, wire.TLSState{Step: step, Change: change}); err != nil {
			t.Fatal(err)
		}
	}
	advance(1, wire.TLSAccept)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := w.Write([]byte("x")); err == nil {
			_ = http.NewResponseController(w).Flush() // the client reports a failure
		}
		<-r.Context().Done()
	})
	go func() { served <- userServer.run(ctx, l, store, mode, handler, hclog.NewNullLogger()) }()
	answer, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var first [1]byte
	if _, err := io.ReadFull(answer.Body, first[:]); err != nil {
		t.Fatal(err)
	}
	advance(2, wire.TLSPrefer)
	advance(3, wire.TLSRequire)
	if n, err := answer.Body.Read(first[:]); err == nil {
		t.Errorf("the answer goes on: %d bytes", n)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
