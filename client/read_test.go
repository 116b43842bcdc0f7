package client

import (
	"errors"
	"net/http"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

func TestGetChecksWhatItGets(t *testing.T) {
	good := sealed(3, 4, "hello")
	honest := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/blocks/3/records/4" && r.URL.Path != "/v1/records/44" ||
			r.Header.Get("Accept") != "application/json" {
			t.Errorf("%s, accept %q", r.URL, r.Header.Get("Accept"))
		}
		reply(w, http.StatusOK, good)
	}
	for name, change := range map[string]func(*wire.Record){
		"payload":    func(r *wire.Record) { r.Payload = []byte("hellO") },
		"longer":     func(r *wire.Record) { r.Payload = []byte("hello!") },
		"size":       func(r *wire.Record) { r.Size++ },
		"key":        func(r *wire.Record) { r.Key = "l" },
		"type":       func(r *wire.Record) { r.Type = "text/html" },
		"salt":       func(r *wire.Record) { r.Salt = make([]byte, 16) },
		"short salt": func(r *wire.Record) { r.Salt = r.Salt[:15] },
		"time":       func(r *wire.Record) { r.Time++ },
		"project":    func(r *wire.Record) { r.ProjectID++ },
		"commit":     func(r *wire.Record) { r.Commit[0]++ },
		"leaf":       func(r *wire.Record) { r.Leaf[0]++ },
		"offset":     func(r *wire.Record) { r.Offset, r.Index = 5, 45 },
	} {
		bad := sealed(3, 4, "hello")
		change(&bad)
		liar := func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, bad) }
		if _, err := newClient(t, 0, liar, liar).Get(t.Context(), 3, 4); !errors.Is(err, ErrMismatch) ||
			!errors.Is(err, ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := newClient(t, 0, liar).GetIndex(t.Context(), 44); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s by index: %v", name, err)
		}
		r, err := newClient(t, 0, liar, honest).Get(t.Context(), 3, 4)
		if err != nil || string(r.Payload) != "hello" || r.Position != good.Position {
			t.Errorf("%s: the honest master was not asked: %+v, %v", name, r, err)
		}
	}
	r, err := newClient(t, 0, honest).GetIndex(t.Context(), 44)
	if err != nil || r.Block != 3 || string(r.Payload) != "hello" {
		t.Errorf("%+v, %v", r, err)
	}
}

// mined returns a header with a little work.
func mined(t *testing.T, number uint64) wire.Block {
	t.Helper()
	h := chain.Header{Version: chain.Version, Block: number, First: 10 * number, Count: 9, Time: 5, Difficulty: 4}
	nonce, ok := chain.Solve(h.Inner(), h.Difficulty, 0, 10_000)
	if !ok {
		t.Fatal("no nonce")
	}
	h.Nonce = nonce
	return wire.NewBlock(h)
}

func TestBlocksAreHeldAgainstTheirHash(t *testing.T) {
	page := wire.Blocks{Blocks: []wire.Block{mined(t, 8), mined(t, 7)}, Next: "c2"}
	serve := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.RequestURI() {
		case "/v1/blocks?cursor=c1%26&limit=2":
			reply(w, http.StatusOK, page)
		case "/v1/blocks":
			reply(w, http.StatusOK, wire.Blocks{Blocks: []wire.Block{}})
		case "/v1/blocks/8":
			reply(w, http.StatusOK, page.Blocks[0])
		default:
			t.Errorf("%s", r.URL)
		}
	}
	c := newClient(t, 0, serve)
	got, err := c.Blocks(t.Context(), "c1&", 2)
	if err != nil || len(got.Blocks) != 2 || got.Next != "c2" || got.Blocks[1] != page.Blocks[1] {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.Blocks(t.Context(), "", 0); err != nil || len(got.Blocks) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if b, err := c.Block(t.Context(), 8); err != nil || b != page.Blocks[0] {
		t.Errorf("%+v, %v", b, err)
	}
	for name, change := range map[string]func(*wire.Block){
		"root":       func(b *wire.Block) { b.Root[0]++ },
		"hash":       func(b *wire.Block) { b.Hash[31]++ },
		"difficulty": func(b *wire.Block) { b.Difficulty = 60; h := b.Header(); b.Hash = h.Hash() },
		"number":     func(b *wire.Block) { b.Block = 9; h := b.Header(); b.Hash = h.Hash(); b.Difficulty = 0 },
	} {
		bad := page.Blocks[0]
		change(&bad)
		c := newClient(t, 0, func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, bad) })
		if _, err := c.Block(t.Context(), 8); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
		c = newClient(t, 0, func(w http.ResponseWriter, _ *http.Request) {
			reply(w, http.StatusOK, wire.Blocks{Blocks: []wire.Block{bad}})
		})
		if _, err := c.Blocks(t.Context(), "", 0); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s in a page: %v", name, err)
		}
	}
}

func TestCluster(t *testing.T) {
	c := newClient(t, 0, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/cluster" {
			t.Errorf("%s", r.URL)
		}
		reply(w, http.StatusOK, wire.Cluster{Leader: "a", Notices: []string{"no miner"}, Storages: []wire.Storage{},
			Miners: []wire.Miner{}})
	})
	table, err := c.Cluster(t.Context())
	if err != nil || table.Leader != "a" || len(table.Notices) != 1 {
		t.Errorf("%+v, %v", table, err)
	}
}
