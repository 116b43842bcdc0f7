package masterapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/formats/proof"
	merkle "github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	auditor "github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// auditPatience is the time limit of the public auditor, which may hang when a check fails.
const auditPatience = 20 * time.Second

// TestOutsiders verifies the public log with independent libraries only.
func TestOutsiders(t *testing.T) {
	c := startCluster(t)
	token := c.file.Tokens.Project
	positions := c.fill(700)
	key := c.logKey()

	t.Run("the public auditor", func(t *testing.T) { c.audit(t, key) })
	t.Run("proofs", func(t *testing.T) { c.logProofs(t, token, key, positions) })
	t.Run("consistency", func(t *testing.T) { c.consistency(t) })
	t.Run("receipts", func(t *testing.T) { c.receipts(t, token, key) })
	t.Run("paths", func(t *testing.T) { c.tilePaths(t) })
}

// fill appends records and waits until a checkpoint covers them.
func (c *cluster) fill(count int) []wire.Position {
	c.t.Helper()
	var lines strings.Builder
	for i := range count {
		fmt.Fprintf(&lines, "{\"text\":\"record %d\"}\n", i)
	}
	token := c.file.Tokens.Project
	_, body := c.do(0, request{name: "fill", method: "POST", path: "/v1/records:batch", token: token,
		body: lines.String(), status: 201})
	var batch wire.Positions
	if err := json.Unmarshal(body, &batch); err != nil || len(batch.Records) != count {
		c.t.Fatalf("%d positions, %v", len(batch.Records), err)
	}
	c.do(1, request{name: "behind them", method: "POST", path: "/v1/records?wait=stored&timeout=20s", token: token,
		body: "last", status: 201})
	return batch.Records
}

// logKey returns the key with which the log signs.
func (c *cluster) logKey() note.Verifier {
	c.t.Helper()
	v, err := note.NewVerifier(c.theLog(0, "").Keys[0].VerifierKey)
	if err != nil {
		c.t.Fatal(err)
	}
	return v
}

// size returns the size of the newest checkpoint of a master.
func (c *cluster) size(i int) uint64 {
	c.t.Helper()
	l := c.theLog(i, "")
	p, _ := c.checkpoint(i, l, l.Keys[0].VerifierKey)
	return p.Size
}

func parseCheckpoint(t testing.TB, signed []byte, key note.Verifier) log.Checkpoint {
	t.Helper()
	p, _, _, err := log.ParseCheckpoint(signed, key.Name(), key)
	if err != nil {
		t.Fatalf("%v:\n%s", err, signed)
	}
	return *p
}

func (c *cluster) fetcher(t *testing.T, i int) *auditor.HTTPFetcher {
	u, err := url.Parse(c.file.Masters[i] + "/")
	if err != nil {
		t.Fatal(err)
	}
	f, err := auditor.NewHTTPFetcher(u, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// leafHashes hashes the entries of a bundle for the auditor.
func leafHashes(data []byte) ([][]byte, error) {
	var b api.EntryBundle
	if err := b.UnmarshalText(data); err != nil {
		return nil, err
	}
	var hashes [][]byte
	for _, entry := range b.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}

// altered changes the response of a log for one path.
type altered struct {
	fsck.Fetcher
	path string
	hit  bool
}

func (a *altered) change(path string, data []byte, err error) ([]byte, error) {
	if err == nil && path == a.path {
		data = slices.Clone(data)
		data[len(data)-1] ^= 1
		a.hit = true
	}
	return data, err
}

func (a *altered) ReadTile(ctx context.Context, l, i uint64, p uint8) ([]byte, error) {
	data, err := a.Fetcher.ReadTile(ctx, l, i, p)
	return a.change(layout.TilePath(l, i, p), data, err)
}

func (a *altered) ReadEntryBundle(ctx context.Context, i uint64, p uint8) ([]byte, error) {
	data, err := a.Fetcher.ReadEntryBundle(ctx, i, p)
	return a.change(layout.EntriesPath(i, p), data, err)
}

func (c *cluster) audit(t *testing.T, key note.Verifier) {
	check := func(f fsck.Fetcher) error {
		ctx, cancel := context.WithTimeout(t.Context(), auditPatience)
		defer cancel()
		return fsck.New(key.Name(), key, f, leafHashes, fsck.Opts{N: 4}).Check(ctx)
	}
	for i := range c.file.Masters {
		if err := check(c.fetcher(t, i)); err != nil {
			t.Errorf("master %d: %v", i, err)
		}
	}
	size := c.size(0)
	edge := size / 256
	for _, path := range []string{
		layout.TilePath(0, 0, 0), layout.TilePath(0, edge, layout.PartialTileSize(0, edge, size)),
		layout.TilePath(1, 0, layout.PartialTileSize(1, 0, size)),
		layout.EntriesPath(1, 0), layout.EntriesPath(edge, layout.PartialTileSize(0, edge, size)),
	} {
		f := &altered{Fetcher: c.fetcher(t, 0), path: path}
		if err := check(f); err == nil || !f.hit {
			t.Errorf("%s was altered (%v), and the auditor finds nothing wrong: %v", path, f.hit, err)
		}
	}
}

func (c *cluster) logProofs(t *testing.T, token string, key note.Verifier, positions []wire.Position) {
	for i := 0; i < len(positions); i += 37 {
		at := positions[i]
		for _, path := range []string{
			fmt.Sprintf("/v1/records/%d/proof", at.Index), fmt.Sprintf("/v1/blocks/%d/records/%d/proof", at.Block,
				at.Offset),
		} {
			h, body := c.do(i, request{name: path, method: "GET", path: path, token: token, status: 200,
				headers: map[string]string{"Accept": "text/plain"}})
			if h.Get("Content-Type") != wire.TypeNote || h.Get("Vary") != "Origin, Accept, Authorization" &&
				!slices.Contains(h.Values("Vary"), "Accept, Authorization") {
				t.Errorf("headers %v", h)
			}
			var p proof.TLogProof
			if err := p.Unmarshal(body); err != nil || p.Index != at.Index {
				t.Fatalf("%v: %s", err, body)
			}
			checkpoint := parseCheckpoint(t, p.Checkpoint, key)
			hashes := make([][]byte, len(p.Hashes))
			for i := range hashes {
				hashes[i] = p.Hashes[i][:]
			}
			if err := merkle.VerifyInclusion(rfc6962.DefaultHasher, p.Index, checkpoint.Size, at.Leaf[:], hashes,
				checkpoint.Hash); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			_, body = c.do(i, request{name: path, method: "GET", path: path, token: token, status: 200})
			var own wire.Proof
			if err := json.Unmarshal(body, &own); err != nil {
				t.Fatal(err)
			}
			checkpoint = parseCheckpoint(t, []byte(own.Checkpoint), key)
			if checkpoint.Size != own.Size || string(checkpoint.Hash) != string(own.Root[:]) {
				t.Errorf("%s: the proof is as of %d, its checkpoint of %d", path, own.Size, checkpoint.Size)
			}
		}
	}
}

func (c *cluster) consistency(t *testing.T) {
	newest := c.size(0)
	tree, err := auditor.FetchRangeNodes(t.Context(), newest, c.fetcher(t, 1).ReadTile)
	if err != nil || len(tree) == 0 {
		t.Fatalf("%d nodes, %v", len(tree), err)
	}
	builder, err := auditor.NewProofBuilder(t.Context(), newest, c.fetcher(t, 2).ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	for from := uint64(1); from < newest; from += 61 {
		for _, path := range []string{fmt.Sprintf("/v1/consistency?from=%d", from),
			fmt.Sprintf("/v1/consistency?from=%d&to=%d", from, newest)} {
			_, body := c.do(int(from), request{name: path, method: "GET", path: path, status: 200})
			var got wire.Consistency
			if err := json.Unmarshal(body, &got); err != nil || got.From != from || got.To != newest {
				t.Fatalf("%s: %s, %v", path, body, err)
			}
			want, err := builder.ConsistencyProof(t.Context(), from, newest)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(got.Proof, want,
				func(a chain.Hash, b []byte) bool { return string(a[:]) == string(b) }) {
				t.Errorf("%s: another proof than the public client builds from the tiles", path)
			}
		}
	}
	for path, status := range map[string]int{
		"/v1/consistency":                           400,
		"/v1/consistency?from=x":                    400,
		"/v1/consistency?from=-1":                   400,
		"/v1/consistency?from=0":                    200,
		"/v1/consistency?from=5&to=4":               400,
		"/v1/consistency?from=18446744073709551615": 404,
		"/v1/consistency?from=9223372036854775808&to=18446744073709551615": 404,
		fmt.Sprintf("/v1/consistency?from=1&to=%d", newest+1):              404,
		fmt.Sprintf("/v1/consistency?from=%d&to=%[1]d", newest):            200,
		fmt.Sprintf("/v1/consistency?from=%d", newest+1):                   404,
	} {
		problem := map[int]string{400: wire.ErrBadRequest.Name, 404: wire.ErrNotFound.Name}[status]
		c.do(1, request{name: path, method: "GET", path: path, status: status, problem: problem})
	}
}

// receipts compares the receipt of an append with one that is requested later, and verifies both.
func (c *cluster) receipts(t *testing.T, token string, key note.Verifier) {
	append := request{
		name: "append", method: "POST", path: "/v1/records?wait=stored&timeout=20s", token: token, body: "a payload",
		status: 201,
		headers: map[string]string{"Content-Type": "text/plain", wire.HeaderKey: "k",
			wire.HeaderIdempotencyKey: "once"},
	}
	for i := range 2 { // the second request is a replay
		_, body := c.do(i, append)
		var stored wire.Appended
		if err := json.Unmarshal(body, &stored); err != nil || stored.Receipt == nil ||
			stored.State != wire.StateStored {
			t.Fatalf("%s, %v", body, err)
		}
		c.checkReceipt(t, stored.Receipt, stored.Position, key)
		for j, path := range []string{
			fmt.Sprintf("/v1/records/%d/receipt", stored.Index), fmt.Sprintf("/v1/blocks/%d/records/%d/receipt",
				stored.Block, stored.Offset),
		} {
			_, body := c.do(j+1, request{name: path, method: "GET", path: path, token: token, status: 200})
			var r wire.Receipt
			if err := json.Unmarshal(body, &r); err != nil {
				t.Fatal(err)
			}
			c.checkReceipt(t, &r, stored.Position, key)
		}
	}
	path := fmt.Sprintf("/v1/records/%d/receipt", 1<<40)
	c.do(0, request{name: "no record", method: "GET", path: path, token: token, status: 404,
		problem: wire.ErrNotFound.Name})
	_, body := c.do(1, request{name: "a block", method: "GET", path: "/v1/blocks/1", token: token, status: 200})
	var b wire.Block
	if err := json.Unmarshal(body, &b); err != nil {
		t.Fatal(err)
	}
	path = fmt.Sprintf("/v1/records/%d/receipt", b.First-1)
	c.do(0, request{name: "a seal", method: "GET", path: path, token: token, status: 404,
		problem: wire.ErrSealIndex.Name})
}

func (c *cluster) checkReceipt(t *testing.T, r *wire.Receipt, at wire.Position, key note.Verifier) {
	t.Helper()
	record := chain.Record{Project: r.ProjectID, Time: r.Time, Salt: [16]byte(r.Salt), Key: r.Key, Type: r.Type,
		Payload: []byte("a payload")}
	leaf := record.Leaf()
	if r.Format != wire.FormatReceipt || r.Commit != leaf.Commit || string(r.LeafData) != string(leaf.AppendTo(nil)) ||
		r.Leaf != leaf.Hash() || r.Leaf != at.Leaf ||
		r.Size != 9 || r.Index != at.Index || r.Block != at.Block || r.Offset != at.Offset || r.Time != at.Time ||
		r.Key != "k" || r.Type != "text/plain" {
		t.Errorf("%+v", r)
	}
	h := r.Header.Header()
	inBlock := chain.Proof{Index: r.Index, Size: h.Seal(), Path: r.RecordPath}
	inTree := chain.Proof{Index: r.SealIndex, Size: r.TreeSize, Path: r.SealPath}
	if err := errors.Join(inBlock.Check(r.Leaf, h.Root), inTree.Check(h.SealHash(), r.Root)); err != nil ||
		h.Hash() != r.Header.Hash || r.SealIndex != h.Seal() {
		t.Errorf("%v: %+v", err, r)
	}
	p := parseCheckpoint(t, []byte(r.Checkpoint), key)
	if p.Size != r.TreeSize || string(p.Hash) != string(r.Root[:]) || p.Origin != r.Origin {
		t.Errorf("%+v of %d leaves and root %v", p, r.TreeSize, r.Root)
	}
}

func (c *cluster) tilePaths(t *testing.T) {
	size := c.size(0)
	edge, width := size/256, size%256
	get := func(path string, status int) (http.Header, []byte) {
		problem := map[int]string{400: wire.ErrBadRequest.Name, 404: wire.ErrNotFound.Name}[status]
		return c.do(1, request{name: path, method: "GET", path: path, status: status, problem: problem})
	}
	h, full := get("/tile/0/000", 200)
	for name, want := range map[string]string{
		"Content-Type": wire.TypeOctets, "Cache-Control": "public, max-age=31536000, immutable",
		"Content-Length": "8192",
	} {
		if h.Get(name) != want {
			t.Errorf("header %s is %q, want %q", name, h.Get(name), want)
		}
	}
	if tag := h.Get("ETag"); tag == "" || strings.HasPrefix(tag, "W/") {
		t.Errorf("ETag %q", tag)
	}
	c.do(2, request{name: "known", method: "GET", path: "/tile/0/000",
		headers: map[string]string{"If-None-Match": h.Get("ETag")}, status: 304})
	head, _ := c.do(2, request{name: "head", method: "HEAD", path: "/tile/0/000", status: 200})
	for _, name := range []string{"ETag", "Content-Length", "Content-Type", "Cache-Control"} {
		if head.Get(name) != h.Get(name) {
			t.Errorf("HEAD: %s is %q", name, head.Get(name))
		}
	}
	c.do(2, request{name: "head beyond", method: "HEAD", path: "/tile/0/999", status: 404})
	for _, w := range []uint64{1, 2, 17, 255} {
		if _, part := get(fmt.Sprintf("/tile/0/000.p/%d", w), 200); string(part) != string(full[:32*w]) {
			t.Errorf("part of %d hashes: %d bytes", w, len(part))
		}
		if _, part := get(fmt.Sprintf("/tile/entries/000.p/%d", w), 200); len(part) < int(w)*(2+chain.LeafSize) {
			t.Errorf("part of %d entries: %d bytes", w, len(part))
		}
	}
	_, edgeTile := get(fmt.Sprintf("/tile/0/%03d.p/%d", edge, width), 200)
	if _, part := get(fmt.Sprintf("/tile/0/%03d.p/1", edge), 200); string(part) != string(edgeTile[:32]) {
		t.Error("another hash at the edge")
	}
	for _, path := range []string{
		fmt.Sprintf("/tile/0/%03d", edge), fmt.Sprintf("/tile/0/%03d.p/%d", edge, width+1),
		fmt.Sprintf("/tile/entries/%03d", edge),
		fmt.Sprintf("/tile/entries/%03d.p/%d", edge, width+1), "/tile/0/999", "/tile/1/000", "/tile/2/000.p/1",
		"/tile/8/000.p/1", "/tile/63/000.p/1",
		"/tile/63/x018/x446/x744/x073/x709/x551/615", "/tile/7/x018/x446/x744/x073/x709/x551/615.p/1",
		"/tile/0/x036/x028/x797/x018/x963/968",
		"/tile/entries/x018/x446/x744/x073/x709/x551/615", "/tile/entries/x018/x446/x744/x073/x709/x551/615.p/255",
	} {
		get(path, 404)
	}
	for _, path := range []string{
		"/tile/64/000", "/tile/00/000", "/tile/x/000", "/tile/-1/000", "/tile/0/0", "/tile/0/00", "/tile/0/0000",
		"/tile/0/x000/000", "/tile/0/000.p/0",
		"/tile/0/000.p/256", "/tile/0/000.p/01", "/tile/0/000.p", "/tile/0/000.p/", "/tile/0/.p/1", "/tile/0/x000",
		"/tile/0/001/000", "/tile/0/000/",
		"/tile/0/x018/x446/x744/x073/x709/x551/616", "/tile/0/x999/x999/x999/x999/x999/x999/x999/999",
		"/tile/entries/1", "/tile/entries/x000/001",
		"/tile/entries/000.p/300", "/tile/data/000",
	} {
		get(path, 400)
	}
}
