package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/signedlog"
	"github.com/chainstore/chainstore/wire"
)

// history returns n sealed records. Their indexes differ by two.
func history(n int) (records []wire.Record) {
	for i := range n {
		r := sealed(uint64(i), 0, fmt.Sprint("record ", i))
		r.Index = uint64(2 * i)
		records = append(records, r)
	}
	return records
}

// servePages returns a list in pages of three, with positions as cursors.
func servePages(records []wire.Record) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		at, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
		page := wire.Records{Records: records[at:min(at+3, len(records))]}
		if at+3 < len(records) {
			page.Next = strconv.Itoa(at + 3)
		}
		reply(w, http.StatusOK, page)
	}
}

func collect(t *testing.T, c *Client, q ListQuery) (indexes []uint64, err error) {
	t.Helper()
	for r, e := range c.List(t.Context(), q) {
		if e != nil {
			return indexes, e
		}
		indexes = append(indexes, r.Index)
	}
	return indexes, nil
}

func TestList(t *testing.T) {
	records := history(8)
	var asked calls[string]
	serve := func(w http.ResponseWriter, r *http.Request) {
		asked.add(r.URL.String())
		servePages(records)(w, r)
	}
	c := newClient(t, 0, nil, serve)
	got, err := collect(t, c, ListQuery{Project: "a b", Key: "k", Since: 5, Limit: 3})
	if err != nil || !slices.Equal(got, []uint64{0, 2, 4, 6, 8, 10, 12, 14}) {
		t.Errorf("%v, %v", got, err)
	}
	want := []string{"", "&cursor=3", "&cursor=6"}
	for i, url := range asked.all() {
		parts := strings.Split(strings.TrimPrefix(url, "http://m1/v1/records?"), "&")
		for _, part := range []string{"project=a+b", "key=k", "since=5", "limit=3"} {
			if !slices.Contains(parts, part) {
				t.Errorf("%s: no %s", url, part)
			}
		}
		if !strings.Contains("&"+url[strings.Index(url, "?")+1:], want[i]) {
			t.Errorf("%s: no %s", url, want[i])
		}
	}
	// A record that was not requested is an error, and nothing follows an error.
	for name, change := range map[string]func([]wire.Record){
		"another key":  func(r []wire.Record) { r[4].Key = "other" },
		"a payload":    func(r []wire.Record) { r[4].Payload = []byte("forged") },
		"backwards":    func(r []wire.Record) { r[4].Index = 1 },
		"out of order": func(r []wire.Record) { r[4], r[5] = r[5], r[4] },
	} {
		records = history(8)
		change(records)
		c := newClient(t, -1, servePages(records))
		got, err := collect(t, c, ListQuery{Key: "k"})
		if !errors.Is(err, ErrMismatch) || len(got) > 3 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := collect(t, newClient(t, -1, servePages(history(2))), ListQuery{Until: 7}); !errors.Is(err,
		ErrMismatch) {
		t.Errorf("too young: %v", err)
	}
	if _, err := collect(t, newClient(t, 0, refuse(403, wire.ErrForbidden.Name)), ListQuery{}); !errors.Is(err,
		wire.ErrForbidden) {
		t.Errorf("forbidden: %v", err)
	}
}

// serveEvents streams the records after the last event of the reader, up to the one before end. Then the stream breaks.
func serveEvents(t *testing.T, records []wire.Record, begin uint64, end int, seen *calls[string]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		last := r.Header.Get(wire.HeaderLastEventID)
		seen.add(last)
		next := begin
		if last != "" {
			n, err := strconv.ParseUint(last, 10, 64)
			if err != nil {
				t.Error(err)
			}
			next = n + 1
		}
		w.Header().Set("Content-Type", wire.TypeEvents)
		fmt.Fprint(w, "retry: 1000\n: alive\n")
		if next > 0 {
			fmt.Fprintf(w, "id: %d\n", next-1)
		}
		fmt.Fprint(w, "\n")
		for i := range records[:end] {
			if records[i].Index >= next {
				fmt.Fprintf(w, "id: %d\nevent: record\ndata: %s\n\n", records[i].Index, marshal(t, records[i]))
			}
		}
	}
}

func TestStreamGoesOnAtTheNextMaster(t *testing.T) {
	records := history(9)
	var asked [3]calls[string]
	c := newClient(t, 0,
		serveEvents(t, records, 0, 3, &asked[0]),
		refuse(http.StatusServiceUnavailable, wire.ErrNoLeader.Name),
		serveEvents(t, records, 0, 9, &asked[2]),
	)
	var got []uint64
	for r, err := range c.Stream(t.Context(), StreamQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, r.Index); len(got) == 9 {
			break
		}
	}
	if !slices.Equal(got, []uint64{0, 2, 4, 6, 8, 10, 12, 14, 16}) {
		t.Errorf("%v", got)
	}
	if first, last := asked[0].all(), asked[2].all(); !slices.Equal(first, []string{""}) ||
		!slices.Equal(last, []string{"4"}) {
		t.Errorf("asked behind %q and %q", first, last)
	}
}

// TestStreamFromNowOn checks that the first master determines where the stream begins, even if nothing had been
// appended before it fails.
func TestStreamFromNowOn(t *testing.T) {
	for _, begin := range []uint64{0, 8} {
		records := history(9)
		var asked [2]calls[string]
		c := newClient(t, 0, serveEvents(t, records, begin, 0, &asked[0]), serveEvents(t, records, 14, 9, &asked[1]))
		for r, err := range c.Stream(t.Context(), StreamQuery{Now: true, Key: "k"}) {
			// The second master must be asked for the records after the first one's begin, or for all if that is the
			// begin of the chain.
			want := begin
			if begin == 0 {
				want = 14 // the begin of this fake, which ignores from
			}
			if err != nil || r.Index != want {
				t.Errorf("begin %d: index %d, %v", begin, r.Index, err)
			}
			break
		}
		want := ""
		if begin > 0 {
			want = strconv.FormatUint(begin-1, 10)
		}
		if got := asked[1].all(); !slices.Equal(got, []string{want}) {
			t.Errorf("begin %d: asked behind %q", begin, got)
		}
	}
}

func TestStreamEnds(t *testing.T) {
	streamed := func(c *Client, ctx context.Context) (n int, last error) {
		for _, err := range c.Stream(ctx, StreamQuery{}) {
			if last != nil {
				t.Error("something follows an error")
			}
			n, last = n+1, err
		}
		return n, last
	}
	if _, err := streamed(newClient(t, 0, refuse(401, wire.ErrUnauthorized.Name)), t.Context()); !errors.Is(err,
		wire.ErrUnauthorized) {
		t.Error(err)
	}
	if _, err := streamed(newClient(t, -1, nil, refuse(503, wire.ErrTooManyStreams.Name)), t.Context()); !errors.Is(err,
		wire.ErrTooManyStreams) {
		t.Error(err)
	}
	var asked calls[string]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	serve := serveEvents(t, history(3), 0, 3, &asked)
	c := newClient(t, 0, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(wire.HeaderLastEventID) != "" {
			cancel() // it has all three, and requests more
		}
		serve(w, r)
	})
	if n, err := streamed(c, ctx); !errors.Is(err, context.Canceled) || n != 4 {
		t.Errorf("%d, %v", n, err)
	}
	for name, lines := range map[string]string{
		"no JSON":    "id: 4\nevent: record\ndata: {\n\n",
		"no id":      "id: four\nevent: record\ndata: {}\n\n",
		"a forgery":  "id: 0\nevent: record\ndata: {\"index\":0}\n\n",
		"not events": "<html>\n\n",
		"nothing":    "",
	} {
		c := newClient(t, -1, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, lines) })
		if n, err := streamed(c, t.Context()); n != 1 || !errors.Is(err, ErrAnswer) &&
			!errors.Is(err, wire.ErrNoAnswer) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

// provenLog returns a log of one block with one record.
func provenLog() *signedlog.Log {
	l := signedlog.New("log", 1)
	l.Mine(7, chain.Record{Project: 1, Time: 7, Payload: []byte("x")})
	return l
}

// provenBlock returns the proof of that record.
func provenBlock() wire.Proof {
	l := provenLog()
	return l.Proof(0, 0, l.Size())
}

func TestProof(t *testing.T) {
	good := provenBlock()
	c := newClient(t, -1, func(w http.ResponseWriter, r *http.Request) { reply(w, http.StatusOK, good) })
	if p, err := c.Proof(t.Context(), 0); err != nil || p.Root != good.Root {
		t.Error(err)
	}
	if _, err := c.ProofAt(t.Context(), 0, 0); err != nil {
		t.Error(err)
	}
	if _, err := c.Proof(t.Context(), 1); !errors.Is(err, ErrMismatch) {
		t.Errorf("another's: %v", err)
	}
	for name, change := range map[string]func(*wire.Proof){
		"leaf":          func(p *wire.Proof) { p.Leaf[0] ^= 1 },
		"leaf data":     func(p *wire.Proof) { p.LeafData = append([]byte(nil), p.LeafData...); p.LeafData[20] ^= 1 },
		"no leaf data":  func(p *wire.Proof) { p.LeafData = nil },
		"header's root": func(p *wire.Proof) { p.Header.Root[0] ^= 1 },
		"header's hash": func(p *wire.Proof) { p.Header.Hash[31] ^= 1 },
		"nonce":         func(p *wire.Proof) { p.Header.Nonce++ },
		"record path":   func(p *wire.Proof) { p.RecordPath = []chain.Hash{{1}} },
		"seal path":     func(p *wire.Proof) { p.SealPath = []chain.Hash{{1}} },
		"seal index":    func(p *wire.Proof) { p.SealIndex = 0 },
		"size":          func(p *wire.Proof) { p.Size = 3 },
		"root":          func(p *wire.Proof) { p.Root[0] ^= 1 },
		"offset":        func(p *wire.Proof) { p.Offset, p.Index = 1, 1 },
		"block":         func(p *wire.Proof) { p.Block = 1 },
		"too easy a job": func(
			p *wire.Proof) {
			p.Header.Difficulty = 60
			h := p.Header.Header()
			p.Header.Hash = h.Hash()
		},
	} {
		p := provenBlock()
		change(&p)
		if err := CheckProof(&p); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A header that is in the tree and names the root of another tree: leaves of that tree are not in the log.
	hidden, shown := provenBlock(), chain.Hash{9}
	header := hidden.Header.Header()
	hidden.SealPath, hidden.Root = []chain.Hash{shown}, chain.NodeHash(shown, header.SealHash())
	if err := CheckProof(&hidden); !errors.Is(err, ErrMismatch) || !errors.Is(err, chain.ErrPrefix) {
		t.Errorf("another tree's root: %v", err)
	}
	if _, err := newClient(t, -1, refuse(409, wire.ErrNotSealed.Name)).Proof(t.Context(), 0); !errors.Is(err,
		wire.ErrNotSealed) {
		t.Error(err)
	}
}

func TestBlockRecords(t *testing.T) {
	r := sealed(5, 1, "mine")
	page := wire.BlockRecords{Records: []wire.BlockRecord{
		{Block: 5, Offset: 0, Index: 40, Hidden: true}, {Record: &r, Block: 5, Offset: 1, Index: r.Index},
	}}
	c := newClient(t, -1, func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, page) })
	got, err := c.BlockRecords(t.Context(), 5, 0, 0)
	if err != nil || len(got.Records) != 2 || !got.Records[0].Hidden || got.Records[1].Record.Offset != 1 ||
		string(got.Records[1].Payload) != "mine" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, ask := range []struct {
		block uint64
		from  uint32
	}{{6, 0}, {5, 1}} {
		if _, err := c.BlockRecords(t.Context(), ask.block, ask.from, 10); !errors.Is(err, ErrMismatch) {
			t.Errorf("%+v: %v", ask, err)
		}
	}
	page.Records[0].Hidden = false
	if _, err := c.BlockRecords(t.Context(), 5, 0, 0); !errors.Is(err, ErrAnswer) {
		t.Errorf("neither hidden nor there: %v", err)
	}
}

func TestFind(t *testing.T) {
	c := newClient(t, -1, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/hashes/"+(chain.Hash{7}).String() {
			problem(w, 404, wire.ErrNotFound.Name)
			return
		}
		reply(w, http.StatusOK, wire.FoundHash{Kind: wire.KindBlock, Block: 3})
	})
	if found, err := c.Find(t.Context(), chain.Hash{7}); err != nil || found.Kind != wire.KindBlock ||
		found.Block != 3 {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := c.Find(t.Context(), chain.Hash{8}); !errors.Is(err, wire.ErrNotFound) {
		t.Error(err)
	}
}

func FuzzReadEvent(f *testing.F) {
	f.Add("id: 1\nevent: record\ndata: {}\n\n")
	f.Add(":\n\ndata\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := newClient(t, -1, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
		n := 0
		for r, err := range c.Stream(t.Context(), StreamQuery{}) {
			if n++; err == nil {
				t.Errorf("a record out of nothing: %+v", r)
			}
		}
		if n != 1 {
			t.Errorf("%d times", n)
		}
	})
}
