package verify

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	witness "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// startTime is when the chains of these tests begin, workBits the difficulty of their blocks.
const (
	startTime = 1_700_000_000_000
	workBits  = 4
)

// testLog is a log in memory, made with package chain, and the server of it.
type testLog struct {
	t      testing.TB
	origin string
	signer note.Signer
	vkey   string

	verifier *chain.Verifier
	blocks   []chain.Block
	records  map[uint64]chain.Record // by leaf index
	entries  [][]byte
	stored   []tlog.Hash
	sizes    []uint64 // block boundaries

	// What the server does. answer may stand in for any path: it returns false for what is served as it is.
	mu       sync.Mutex // guards all below
	size     uint64     // of the checkpoint that is served
	answer   func(w http.ResponseWriter, path string) bool
	requests map[string]int
}

// testKey makes a key of a name, the same for the same seed.
func testKey(t testing.TB, name string, seed byte) (note.Signer, string) {
	t.Helper()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	vkey, err := note.NewEd25519VerifierKey(name, private.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(vkey, "+")
	signer, err := note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%s+%s", name, parts[1],
		base64.StdEncoding.EncodeToString(append([]byte{1}, private.Seed()...))))
	if err != nil {
		t.Fatal(err)
	}
	return signer, vkey
}

// newTestLog makes a log of blocks of so many records each.
func newTestLog(t testing.TB, counts ...int) *testLog {
	t.Helper()
	l := &testLog{
		t: t, origin: "chainstore/test", verifier: chain.NewVerifier(chain.Head{}), records: map[uint64]chain.Record{},
		requests: map[string]int{},
	}
	l.signer, l.vkey = testKey(t, l.origin, 1)
	l.grow("", counts...)
	return l
}

// fork is the log again, with its first blocks and others behind them.
func (l *testLog) fork(blocks int, salt string, counts ...int) *testLog {
	l.t.Helper()
	other := newTestLog(l.t)
	for i := range blocks {
		other.add(&l.blocks[i])
	}
	other.grow(salt, counts...)
	return other
}

// grow adds blocks of so many records each; another salt makes other records.
func (l *testLog) grow(salt string, counts ...int) {
	l.t.Helper()
	for _, count := range counts {
		head := l.verifier.Head()
		h := chain.Header{
			Version: chain.Version, Block: head.Height, First: head.Tree.Size(), Count: uint32(count), Prev: head.Hash,
			Time: startTime + 1000*head.Height, Difficulty: workBits,
		}
		tree, body, ends := head.Tree, []byte(nil), []uint32(nil)
		for i := range count {
			r := chain.Record{
				Project: 1 + uint32(i%2), Time: h.Time, Key: fmt.Sprintf("key %d", i), Type: "text/plain",
				Payload: fmt.Appendf(nil, "%s record %d of block %d", salt, i, h.Block),
			}
			binary.BigEndian.PutUint64(r.Salt[:], h.First+uint64(i)+77)
			tree = tree.Append(r.Leaf().Hash())
			body = r.AppendTo(body)
			ends = append(ends, uint32(len(body)))
		}
		h.Root = tree.Root()
		l.add(l.mined(h, ends, body))
	}
}

func (l *testLog) mined(h chain.Header, ends []uint32, body []byte) *chain.Block {
	l.t.Helper()
	nonce, found := chain.Solve(h.Inner(), h.Difficulty, 0, 1<<20)
	if !found {
		l.t.Fatal("no nonce")
	}
	h.Nonce = nonce
	b, err := chain.NewBlock(h, ends, body)
	if err != nil {
		l.t.Fatal(err)
	}
	return &b
}

// add takes a block in.
func (l *testLog) add(b *chain.Block) {
	l.t.Helper()
	if _, err := l.verifier.Take(b); err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range b.Header.Count {
		r, err := b.Record(i)
		if err != nil {
			l.t.Fatal(err)
		}
		l.records[uint64(len(l.entries))] = r
		l.leaf(r.Leaf().AppendTo(nil))
	}
	l.leaf(b.Header.AppendTo(nil))
	l.blocks = append(l.blocks, *b)
	l.size = uint64(len(l.entries))
	l.sizes = append(l.sizes, l.size)
}

func (l *testLog) leaf(data []byte) {
	hashes, err := tlog.StoredHashes(int64(len(l.entries)), data, l)
	if err != nil {
		l.t.Fatal(err)
	}
	l.stored = append(l.stored, hashes...)
	l.entries = append(l.entries, data)
}

// ReadHashes implements [tlog.HashReader].
func (l *testLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var hashes []tlog.Hash
	for _, i := range indexes {
		hashes = append(hashes, l.stored[i])
	}
	return hashes, nil
}

func (l *testLog) root(size uint64) chain.Hash {
	h, err := tlog.TreeHash(int64(size), l)
	if err != nil {
		l.t.Fatal(err)
	}
	return chain.Hash(h)
}

// checkpoint is the signed checkpoint of a size.
func (l *testLog) checkpoint(size uint64, more ...note.Signer) string {
	root := l.root(size)
	return signCheckpoint(l.t, l.origin, size, root, append([]note.Signer{l.signer}, more...)...)
}

func signCheckpoint(t testing.TB, origin string, size uint64, root chain.Hash, signers ...note.Signer) string {
	t.Helper()
	signed, err := note.Sign(
		&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root[:]))},
		signers...)
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

// path proves a leaf in the tree of the first size leaves.
func (l *testLog) path(size, index uint64) []chain.Hash {
	p, err := tlog.ProveRecord(int64(size), int64(index), l)
	if err != nil {
		l.t.Fatal(err)
	}
	path := []chain.Hash{}
	for _, h := range p {
		path = append(path, chain.Hash(h))
	}
	return path
}

// receipt is that of a record in the checkpoint of a size.
func (l *testLog) receipt(block, offset int, size uint64) wire.Receipt {
	b := &l.blocks[block]
	record, err := b.Record(uint32(offset))
	if err != nil {
		l.t.Fatal(err)
	}
	leaf := record.Leaf()
	index := b.Header.First + uint64(offset)
	return wire.Receipt{
		Format: wire.FormatReceipt, Origin: l.origin, Index: index, Block: uint64(block), Offset: uint32(offset),
		Time:      record.Time,
		ProjectID: record.Project, Size: leaf.Size, Key: record.Key, Type: record.Type, Salt: record.Salt[:],
		Commit: leaf.Commit, Leaf: leaf.Hash(),
		LeafData: leaf.AppendTo(nil), Header: wire.NewBlock(b.Header), RecordPath: l.path(b.Header.Seal(), index),
		SealIndex: b.Header.Seal(),
		SealPath:  l.path(size, b.Header.Seal()), TreeSize: size, Root: l.root(size), Checkpoint: l.checkpoint(size),
	}
}

func (l *testLog) trust() Trust {
	l.t.Helper()
	trust, err := NewTrust([]string{l.vkey}, nil, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	return trust
}

// serve starts the log's server.
func (l *testLog) serve() string {
	server := httptest.NewServer(l)
	l.t.Cleanup(server.Close)
	return server.URL
}

// answers puts something in the place of what the server answers.
func (l *testLog) answers(f func(w http.ResponseWriter, path string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = f
}

// asked is how often a path was asked for.
func (l *testLog) asked(path string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requests[path]
}

func (l *testLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/")
	l.requests[path]++
	if l.answer != nil && l.answer(w, path) {
		return
	}
	switch {
	case path == "checkpoint":
		_, _ = w.Write([]byte(l.checkpoint(l.size)))
	case strings.HasPrefix(path, "tile/"):
		l.serveTile(w, path)
	case strings.HasPrefix(path, "v1/blocks/") && r.Header.Get("Authorization") == "Bearer secret":
		l.serveRecords(w, r)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (l *testLog) serveTile(w http.ResponseWriter, path string) {
	data, found := l.tile(path)
	if !found {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = w.Write(data)
}

// tile is what stands in a tile or bundle.
func (l *testLog) tile(path string) ([]byte, bool) {
	path = strings.Replace(path, "tile/", "tile/8/", 1)
	tile, err := tlog.ParseTilePath(strings.Replace(path, "entries/", "data/", 1))
	if err != nil {
		return nil, false
	}
	if tile.L >= 0 {
		data, err := tlog.ReadTileData(tile, l)
		return data, err == nil
	}
	var bundle []byte
	for n := tile.N * tileWidth; n < tile.N*tileWidth+int64(tile.W); n++ {
		if n >= int64(len(l.entries)) {
			return nil, false
		}
		bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(l.entries[n])))
		bundle = append(bundle, l.entries[n]...)
	}
	return bundle, true
}

// serveRecords shows the records of project 1, three a page.
func (l *testLog) serveRecords(w http.ResponseWriter, r *http.Request) {
	block, _ := strconv.Atoi(strings.Split(r.URL.Path, "/")[3])
	from, _ := strconv.Atoi(r.URL.Query().Get("from"))
	h := l.blocks[block].Header
	var page wire.BlockRecords
	for offset := uint32(from); offset < h.Count && len(page.Records) < 3; offset++ {
		index := h.First + uint64(offset)
		shown := wire.BlockRecord{Block: h.Block, Offset: offset, Index: index, Hidden: true}
		if record := l.records[index]; record.Project == 1 {
			shown.Hidden = false
			shown.Record = &wire.Record{
				Position: wire.Position{Time: record.Time}, ProjectID: record.Project, Key: record.Key,
				Type: record.Type, Salt: record.Salt[:], Payload: record.Payload,
			}
		}
		page.Records = append(page.Records, shown)
	}
	data, err := json.Marshal(page)
	if err != nil {
		l.t.Error(err)
	}
	_, _ = w.Write(data)
}

// codes are the codes of findings.
func codes(found []Finding) string {
	var list []string
	for _, f := range found {
		list = append(list, f.Code)
	}
	return strings.Join(list, " ")
}

// testWitness makes a witness's signer and key.
func testWitness(t testing.TB, name string, seed byte) (note.Signer, string) {
	t.Helper()
	_, vkey := testKey(t, name, seed)
	private := base64.StdEncoding.EncodeToString(append([]byte{1}, bytes.Repeat([]byte{seed}, 32)...))
	signer, err := witness.NewSignerForCosignatureV1(fmt.Sprintf("PRIVATE+KEY+%s+%s+%s", name,
		strings.Split(vkey, "+")[1], private))
	if err != nil {
		t.Fatal(err)
	}
	if vkey, err = witness.VKeyToCosignatureV1(vkey); err != nil {
		t.Fatal(err)
	}
	return signer, vkey
}

// testRand makes random numbers that are the same in each run.
func testRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
