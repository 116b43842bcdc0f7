package noderpc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/e2e/witness"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

func newWitnesses(t *testing.T) *Witnesses {
	c := NewWitnesses()
	t.Cleanup(c.transport.CloseIdleConnections)
	return c
}

// TestAddCheckpoint submits to a witness that checks the body against the specification.
func TestAddCheckpoint(t *testing.T) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "example.com/log")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		list := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			list[i] = hashes[x]
		}
		return list, nil
	})
	for n := range int64(9) {
		more, err := tlog.StoredHashes(n, []byte{byte(n)}, reader)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, more...)
	}
	sign := func(size int64) []byte {
		root, err := tlog.TreeHash(size, reader)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("example.com/log\n%d\n%s\n", size, root)}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	proven, err := tlog.ProveTree(9, 5, reader)
	if err != nil {
		t.Fatal(err)
	}
	proof := make([]chain.Hash, len(proven))
	for i, h := range proven {
		proof[i] = chain.Hash(h)
	}

	w, err := witness.New("witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	server, connections := node(t, w.ServeHTTP)
	c := newWitnesses(t)
	submit := func(old uint64, proof []chain.Hash, size int64) ([]byte, error) {
		return c.AddCheckpoint(t.Context(), server.URL, old, proof, sign(size))
	}
	wantRefusal := func(err error, status int) {
		t.Helper()
		var refusal *wire.WitnessRefusal
		if !errors.As(err, &refusal) || refusal.Status != status || refusal.Reason == "" ||
			!strings.Contains(refusal.Error(), refusal.Reason) {
			t.Errorf("the error %v, not the refusal %d", err, status)
		}
	}
	_, err = submit(0, nil, 5)
	wantRefusal(err, http.StatusNotFound)
	w.Know("example.com/log")
	_, err = submit(0, nil, 5)
	wantRefusal(err, http.StatusForbidden)
	w.Know("example.com/log", vkey)
	_, err = submit(6, nil, 5)
	wantRefusal(err, http.StatusBadRequest)
	if _, err = submit(0, nil, 5); err != nil {
		t.Fatal(err)
	}
	var conflict *wire.WitnessConflict
	if _, err = submit(0, nil, 9); !errors.As(err, &conflict) || conflict.Size != 5 {
		t.Errorf("the error %v, not the conflict with size 5", err)
	}
	_, err = submit(5, nil, 9)
	wantRefusal(err, http.StatusUnprocessableEntity)
	lines, err := submit(5, proof, 9)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := formats.NewVerifierForCosignatureV1(w.VKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(append(sign(9), lines...), note.VerifierList(verifier)); err != nil {
		t.Error(err)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections were made for calls that follow each other", n)
	}
}

// TestAddCheckpointOfOddAnswers checks responses that are not those of a witness. The error must describe them, their
// size must be limited, and redirects must not be followed.
func TestAddCheckpointOfOddAnswers(t *testing.T) {
	elsewhere, visits := node(t, func(http.ResponseWriter, *http.Request) {})
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		check func(error) bool
	}{
		"a redirect": {
			func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			},
			refused(http.StatusTemporaryRedirect, "", 0),
		},
		"a proxy's page": {
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = io.WriteString(w, "<h1>\x1b[2Jaway</h1>\n\n  soon back")
			},
			refused(http.StatusServiceUnavailable, "<h1>[2Jaway</h1> soon back", 7*time.Second),
		},
		"many words": {
			func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(w, strings.Repeat("é", 5000))
			},
			refused(http.StatusForbidden, strings.Repeat("é", maxReason)+"…", 0),
		},
		"no content": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
			refused(http.StatusNoContent, "", 0)},
		"too long": {
			func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxCosignatures+1)) },
			func(err error) bool { return errors.Is(err, exchange.ErrAnswer) },
		},
		"a conflict without type":    {conflictWith("", "5\n"), isAnswer},
		"a conflict without newline": {conflictWith(wire.TypeWitnessSize, "5"), isAnswer},
		"a conflict of two lines":    {conflictWith(wire.TypeWitnessSize, "5\n6\n"), isAnswer},
		"a conflict with a zero":     {conflictWith(wire.TypeWitnessSize, "05\n"), isAnswer},
		"a conflict with a sign":     {conflictWith(wire.TypeWitnessSize, "+5\n"), isAnswer},
		"a negative conflict":        {conflictWith(wire.TypeWitnessSize, "-5\n"), isAnswer},
		"a conflict with no size":    {conflictWith(wire.TypeWitnessSize, "\n"), isAnswer},
		"a conflict beyond 63 bits":  {conflictWith(wire.TypeWitnessSize, "9223372036854775808\n"), isAnswer},
		"a conflict with parameters": {
			conflictWith(wire.TypeWitnessSize+"; charset=utf-8", "9223372036854775807\n"),
			func(err error) bool { return reflect.DeepEqual(err, &wire.WitnessConflict{Size: 1<<63 - 1}) },
		},
	} {
		server, _ := node(t, c.serve)
		if _, err := newWitnesses(t).AddCheckpoint(t.Context(), server.URL, 0, nil, nil); !c.check(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := visits.Load(); n != 0 {
		t.Errorf("a redirect was followed, %d connections", n)
	}
}

func isAnswer(err error) bool { return errors.Is(err, exchange.ErrAnswer) }

func conflictWith(media, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{media}
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, body)
	}
}

func refused(status int, reason string, after time.Duration) func(error) bool {
	return func(err error) bool {
		var r *wire.WitnessRefusal
		return errors.As(err, &r) && r.Status == status && (reason == "" || r.Reason == reason) && r.RetryAfter == after
	}
}

// TestAddCheckpointUnreachable checks an address without a listener, and a witness that does not reply in time.
func TestAddCheckpointUnreachable(t *testing.T) {
	hung, _ := node(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body) // from now on the server notices when the caller closes the connection
		<-r.Context().Done()
	})
	dead, _ := node(t, nil)
	dead.Close()
	for _, url := range []string{hung.URL, dead.URL} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := newWitnesses(t).AddCheckpoint(ctx, url, 0, nil, []byte("note")); !errors.Is(err,
			wire.ErrNoAnswer) {
			t.Errorf("%s: %v", url, err)
		}
		cancel()
	}
}
