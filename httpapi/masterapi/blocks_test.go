package masterapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainstore/chainstore/e2e/witness"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

// TestPublishedBlocks has a row for each kind of block, for callers with and without a token, and for a public and a
// private log. Without a token only published headers are served, and blocks that are not published cannot be told from
// those that do not exist.
func TestPublishedBlocks(t *testing.T) {
	for name, private := range map[string]bool{"public log": false, "private log": true} {
		t.Run(name, func(t *testing.T) { publishedBlocks(t, private) })
	}
}

func publishedBlocks(t *testing.T, private bool) {
	const origin = "example.com/log"
	signer, err := witness.New("witness.example/w")
	if err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		signer.ServeHTTP(w, r)
	}))
	defer server.Close()
	c := startCluster(t, func(topology *devcluster.Topology) {
		topology.Masters, topology.Storages, topology.Miners = 1, 2, 1
		topology.PrivateLog, topology.Origin = private, origin
		topology.Witnesses = []string{signer.VKey() + " " + server.URL}
		topology.Settings.WitnessQuorum, topology.Settings.MaxRecords = 1, 2
		topology.MaxAge = time.Hour // only full blocks are cut
	})
	token := c.file.Tokens.Project
	signer.Know(origin, c.theLog(0, "").Keys[0].VerifierKey)
	// Records of the audit trail come first. Block base is the first one without them. The witness has refused
	// checkpoints of a log that it did not know, so it may take a minute until it is asked again.
	appended := func() (at wire.Position) {
		_, body := c.do(0, request{name: "fill", method: "POST", path: "/v1/records", token: token, body: "x",
			status: 201})
		if err := json.Unmarshal(body, &at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	// aligned fills a block, and waits until that is published. Acts of the cluster's start may come in between.
	aligned := func() (base, size, published uint64) {
		first, last := appended(), appended()
		for first.Block != last.Block {
			first, last = last, appended()
		}
		size = last.Index + 2 // with the seal
		for deadline := time.Now().Add(3 * time.Minute); published < size; time.Sleep(10 * time.Millisecond) {
			if now := c.theLog(0, token).Size; now != nil {
				published = *now
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d leaves are published, %d are due", published, size)
			}
		}
		return first.Block, size, published
	}
	base, size, published := aligned()
	for size != published {
		base, size, published = aligned()
	}
	block := func(n uint64) string { return strconv.FormatUint(base+n, 10) }
	away.Store(true)
	// The next block is stored and not published, the one after that is not mined.
	c.do(0, request{name: "stored", method: "POST", path: "/v1/records:batch?wait=stored&timeout=20s", token: token,
		body: "{\"text\":\"c\"}\n{\"text\":\"d\"}\n", status: 201})
	c.do(0, request{name: "open", method: "POST", path: "/v1/records", token: token, body: "e", status: 201})
	if published := c.theLog(0, token).Size; published == nil || *published != size {
		t.Fatalf("%v leaves are published, want %d", published, size)
	}

	answer := func(token, number, method string, status int, problem string) (http.Header, string) {
		t.Helper()
		h, body := c.do(0, request{name: number + " with " + token, method: method, path: "/v1/blocks/" + number,
			token: token, status: status, problem: problem})
		return h, string(body)
	}
	const notFound, badRequest = http.StatusNotFound, http.StatusBadRequest
	for number, want := range map[string]struct{ known, open int }{
		block(0): {200, 200}, block(1): {200, notFound}, block(2): {http.StatusConflict, notFound},
		block(3):               {notFound, notFound},
		"18446744073709551615": {notFound, notFound}, "18446744073709551616": {notFound, notFound},
		"-1": {notFound, notFound}, "x": {badRequest, badRequest}, "1.5": {badRequest, badRequest},
	} {
		problems := map[int]string{notFound: wire.ErrNotFound.Name, badRequest: wire.ErrBadRequest.Name,
			http.StatusConflict: wire.ErrNotMined.Name, http.StatusUnauthorized: wire.ErrUnauthorized.Name}
		open := want.open
		if private {
			open = http.StatusUnauthorized
		}
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			answer(token, number, method, want.known, problems[want.known])
			answer(c.file.Tokens.Admin, number, method, want.known, problems[want.known])
			answer("", number, method, open, problems[open])
			answer("nobody-knows-it", number, method, http.StatusUnauthorized, wire.ErrUnauthorized.Name)
		}
	}
	const immutable = "max-age=31536000, immutable"
	known, body := answer(token, block(0), http.MethodGet, http.StatusOK, "")
	if known.Get("Cache-Control") != "private, "+immutable {
		t.Errorf("with a token: %v", known)
	}
	if private {
		return
	}
	open, same := answer("", block(0), http.MethodGet, http.StatusOK, "")
	if same != body || open.Get("Etag") != known.Get("Etag") || open.Get("Cache-Control") != "public, "+immutable ||
		!strings.Contains(strings.Join(open.Values("Vary"), ","), "Authorization") {
		t.Errorf("without a token: %v %s, want %s", open, same, body)
	}
	// Only the header and its hash are shown: all of it is what hashes to the chain.
	var b wire.Block
	var fields map[string]any
	if err := json.Unmarshal([]byte(same), &b); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(same), &fields); err != nil || len(fields) != 10 ||
		b != wire.NewBlock(b.Header()) { // its hash is that of the other fields
		t.Errorf("%s, %v", same, err)
	}
	_, unpublished := answer("", block(1), http.MethodGet, notFound, wire.ErrNotFound.Name)
	_, unmined := answer("", block(2), http.MethodGet, notFound, wire.ErrNotFound.Name)
	h, absent := answer("", "1234567", http.MethodGet, notFound, wire.ErrNotFound.Name)
	if unpublished != absent || unmined != absent || h.Get("Cache-Control") != "no-store" {
		t.Errorf("%s and %s and %s can be told apart, or kept: %v", unpublished, unmined, absent, h)
	}
}
