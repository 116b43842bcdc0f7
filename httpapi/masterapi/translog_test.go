package masterapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/e2e/witness"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

// theLog reads the log's keys from a master.
func (c *cluster) theLog(i int, token string) wire.Log {
	c.t.Helper()
	_, body := c.do(i, request{name: "log", method: "GET", path: "/v1/log", token: token, status: 200})
	var l wire.Log
	if err := json.Unmarshal(body, &l); err != nil || l.Origin == "" || len(l.Keys) == 0 {
		c.t.Fatalf("%s, %v", body, err)
	}
	return l
}

// checkpoint reads a master's checkpoint, which each of the keys must have signed.
func (c *cluster) checkpoint(i int, l wire.Log, keys ...string) (*log.Checkpoint, []byte) {
	c.t.Helper()
	h, signed := c.do(i, request{name: "checkpoint", method: "GET", path: "/checkpoint", status: 200})
	if h.Get("Content-Type") != wire.TypeNote || h.Get("Cache-Control") != "no-cache" {
		c.t.Errorf("headers %v", h)
	}
	var p *log.Checkpoint
	for _, key := range keys {
		v, err := note.NewVerifier(key)
		if err != nil {
			c.t.Fatal(err)
		}
		if p, _, _, err = log.ParseCheckpoint(signed, l.Origin, v); err != nil {
			c.t.Fatalf("%s: %v\n%s", key, err, signed)
		}
	}
	return p, signed
}

// log checks that every master serves the same signed history with the signatures of all keys, and that only the
// administrator may change the keys.
func (c *cluster) log(token, admin string) {
	before := c.theLog(0, "")
	if before.Private || before.Size == nil {
		c.t.Errorf("%+v", before)
	}
	_, body := c.do(1, request{name: "add", method: "POST", path: "/v1/log/keys", token: admin, status: 201})
	var added wire.LogKey
	if err := json.Unmarshal(body, &added); err != nil || added.ID == "" || added.Since == 0 ||
		strings.Contains(string(body), "PRIVATE") {
		c.t.Fatalf("%s, %v", body, err)
	}
	first := before.Keys[0].VerifierKey
	size := uint64(0)
	for i := range 6 {
		c.do(i, request{name: "append", method: "POST", path: "/v1/records?wait=stored&timeout=20s", token: token,
			body: "signed", status: 201})
		p, _ := c.checkpoint(i, before, first, added.VerifierKey)
		if p.Size <= size {
			c.t.Errorf("master %d shows %d leaves after %d", i, p.Size, size)
		}
		size = p.Size
		c.do(i, request{name: "HEAD", method: "HEAD", path: "/checkpoint", status: 200})
	}
	_, one := c.checkpoint(0, before, first)
	for i := range 3 {
		if p, other := c.checkpoint(i, before, first); p.Size == size && string(other) != string(one) {
			c.t.Errorf("master %d signs other bytes:\n%s%s", i, other, one)
		}
	}
	c.do(2, request{name: "unknown", method: "DELETE", path: "/v1/log/keys/00000000", token: admin, status: 404,
		problem: wire.ErrNotFound.Name})
	for i, k := range before.Keys {
		if k.Retired == 0 {
			c.do(i, request{name: "retire", method: "DELETE", path: "/v1/log/keys/" + k.ID, token: admin, status: 204})
		}
	}
	c.do(0, request{name: "the last", method: "DELETE", path: "/v1/log/keys/" + added.ID, token: admin, status: 409,
		problem: wire.ErrLastKey.Name})
	_, signed := c.checkpoint(1, before, added.VerifierKey)
	if v, err := note.NewVerifier(first); err != nil {
		c.t.Error(err)
	} else if _, err := note.Open(signed, note.VerifierList(v)); err == nil {
		c.t.Errorf("a retired key has signed:\n%s", signed)
	}
	if l := c.theLog(2, ""); len(l.Keys) != len(before.Keys)+1 || l.Keys[0].Retired == 0 ||
		l.Keys[len(l.Keys)-1] != added || l.Origin != before.Origin {
		c.t.Errorf("%+v", l)
	}
	var status wire.Cluster
	_, body = c.do(0, request{name: "status", method: "GET", path: "/v1/cluster", token: token, status: 200})
	if err := json.Unmarshal(body, &status); err != nil || status.Checkpoint.PublishedSize != status.Checkpoint.Size ||
		status.Checkpoint.Size < size {
		c.t.Errorf("%s, %v", body, err)
	}
}

// TestPrivateLog checks that a private log requires a token, and that its keys are public.
func TestPrivateLog(t *testing.T) {
	topology := devcluster.NewTopology(t.TempDir(), freePort(t))
	topology.LogLevel, topology.Timeout = "error", time.Second
	topology.Masters, topology.Storages, topology.Miners = 1, 2, 1
	topology.PrivateLog, topology.Origin = true, "example.com/private"
	topology.BrowserHosts = []string{"Log.example"}
	away, err := witness.New("witness.example/away")
	if err != nil {
		t.Fatal(err)
	}
	topology.Witnesses = []string{away.VKey() + " http://127.0.0.1:1"}
	running, err := devcluster.Start(t.Context(), topology, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := running.Stop(); err != nil {
			t.Error(err)
		}
	}()
	c := &cluster{t: t, file: running.File()}
	if l := c.theLog(0, ""); !l.Private || l.Size != nil || l.Witnesses != nil || l.Origin != "example.com/private" {
		t.Errorf("%+v", l)
	}
	if l := c.theLog(0, "nobody-knows-it"); l.Size != nil {
		t.Errorf("%+v", l)
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, path := range []string{"/checkpoint", "/tile/0/000", "/tile/entries/000.p/1", "/v1/consistency?from=0",
			"/v1/blocks/0"} {
			c.do(0, request{name: "nobody", method: method, path: path, status: 401,
				problem: wire.ErrUnauthorized.Name})
			c.do(0, request{name: "unknown", method: method, path: path, token: "nobody-knows-it", status: 401,
				problem: wire.ErrUnauthorized.Name})
		}
	}
	for _, token := range []string{c.file.Tokens.Project, c.file.Tokens.Admin, c.file.Tokens.Cluster} {
		if l := c.theLog(0, token); l.Size == nil || len(l.Witnesses) != 1 ||
			l.Witnesses[0].VerifierKey != away.VKey() {
			t.Errorf("%+v", l)
		}
		c.do(0, request{name: "somebody", method: "GET", path: "/checkpoint", token: token, status: 200})
		c.do(0, request{name: "somebody", method: "GET", path: "/v1/consistency?from=0", token: token, status: 200})
	}
	c.anyPage(true)
	c.pagesOfProxy()
	token := c.file.Tokens.Project
	c.do(0, request{name: "append", method: "POST", path: "/v1/records?wait=stored&timeout=20s", token: token,
		body: "x", status: 201})
	h, _ := c.do(0, request{name: "tile", method: "GET", path: "/tile/0/000.p/2", token: token, status: 200})
	if h.Get("Cache-Control") != "private, max-age=31536000, immutable" || h.Get("Vary") != "Authorization" {
		t.Errorf("a tile that is not for everybody is kept for everybody: %v", h)
	}
}
