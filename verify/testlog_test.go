package verify

import (
	"bytes"
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

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/signedlog"
	"github.com/chainstore/chainstore/wire"
)

// startTime is the time at which the chains of these tests begin; workBits is the difficulty of their blocks.
const (
	startTime = 1_700_000_000_000
	workBits  = signedlog.Difficulty
)

// testLog is an in-memory log with a server.
type testLog struct {
	*signedlog.Log
	t       testing.TB
	records map[uint64]chain.Record // by leaf index
	sizes   []uint64                // block boundaries

	// The behaviour of the server. answer may replace the response for any path; it returns false to keep it.
	mu       sync.Mutex // guards the fields below
	size     uint64     // of the served checkpoint
	answer   func(w http.ResponseWriter, path string) bool
	closed   bool // headers of blocks need a token, as those of older versions and of private logs do
	requests map[string]int
}

// newTestLog returns a log of blocks with the given numbers of records.
func newTestLog(t testing.TB, counts ...int) *testLog {
	t.Helper()
	l := &testLog{
		Log: signedlog.New("chainstore/test", 1), t: t,
		records: map[uint64]chain.Record{}, requests: map[string]int{},
	}
	l.grow("", counts...)
	return l
}

// fork returns a copy of the log's first blocks with other blocks after them.
func (l *testLog) fork(blocks int, salt string, counts ...int) *testLog {
	l.t.Helper()
	other := newTestLog(l.t)
	for i := range blocks {
		other.add(&l.Blocks[i])
	}
	other.grow(salt, counts...)
	return other
}

// grow appends blocks with the given numbers of records. A different salt gives different records.
func (l *testLog) grow(salt string, counts ...int) {
	l.t.Helper()
	for _, count := range counts {
		first, block := l.Size(), len(l.Blocks)
		time := startTime + 1000*uint64(block)
		records := make([]chain.Record, count)
		for i := range records {
			records[i] = chain.Record{
				Project: 1 + uint32(i%2), Time: time, Key: fmt.Sprintf("key %d", i), Type: "text/plain",
				Payload: fmt.Appendf(nil, "%s record %d of block %d", salt, i, block),
			}
			binary.BigEndian.PutUint64(records[i].Salt[:], first+uint64(i)+77)
		}
		l.added(func() *chain.Block { return l.Mine(time, records...) })
	}
}

// add adds a block.
func (l *testLog) add(b *chain.Block) { l.added(func() *chain.Block { return l.Add(b) }) }

// added calls add, and keeps the records and the boundary of the block.
func (l *testLog) added(add func() *chain.Block) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	b := add()
	for i := range b.Header.Count {
		r, err := b.Record(i)
		if err != nil {
			l.t.Fatal(err)
		}
		l.records[b.Header.First+uint64(i)] = r
	}
	l.size = l.Size()
	l.sizes = append(l.sizes, l.size)
}

// receipt returns the receipt of a record in the checkpoint of a size.
func (l *testLog) receipt(block, offset int, size uint64) wire.Receipt {
	return l.Receipt(uint64(block), uint32(offset), size)
}

func (l *testLog) trust() Trust {
	l.t.Helper()
	trust, err := NewTrust([]string{l.VKey}, nil, 0)
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

// answers sets a function that replaces responses of the server.
func (l *testLog) answers(f func(w http.ResponseWriter, path string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = f
}

// asked returns how often a path was requested.
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
	w = refusals{w}
	if l.answer != nil && l.answer(w, path) {
		return
	}
	switch {
	case path == "checkpoint":
		_, _ = w.Write([]byte(l.Checkpoint(l.size)))
	case strings.HasPrefix(path, "tile/"):
		l.serveTile(w, path)
	case strings.HasPrefix(path, "v1/blocks/"):
		l.serveBlock(w, r)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// refusals makes the statuses 403 and 410 of a log's server those of ChainStore, with its problems.
type refusals struct{ http.ResponseWriter }

func (r refusals) WriteHeader(status int) {
	refusal := map[int]*wire.ProblemType{http.StatusForbidden: wire.ErrForbidden, http.StatusGone: wire.ErrLost}[status]
	if refusal == nil {
		r.ResponseWriter.WriteHeader(status)
		return
	}
	r.Header().Set("Content-Type", wire.TypeProblem)
	r.ResponseWriter.WriteHeader(status)
	data, err := json.Marshal(refusal.Problem(refusal))
	if err != nil {
		panic(err)
	}
	_, _ = r.Write(data)
}

func (l *testLog) serveTile(w http.ResponseWriter, path string) {
	data, found := l.Tile(path)
	if !found {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = w.Write(data)
}

// serveBlock serves the header of a block, or with the token its records of project 1, three per page. Without the
// token it has the headers that the checkpoint covers.
func (l *testLog) serveBlock(w http.ResponseWriter, r *http.Request) {
	block, _ := strconv.Atoi(strings.Split(r.URL.Path, "/")[3])
	from, _ := strconv.Atoi(r.URL.Query().Get("from"))
	known := r.Header.Get("Authorization") == "Bearer secret"
	records := strings.HasSuffix(r.URL.Path, "/records")
	switch {
	case !known && (records || l.closed):
		w.WriteHeader(http.StatusUnauthorized)
		return
	case block >= len(l.Blocks), !known && l.sizes[block] > l.size:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	h := l.Blocks[block].Header
	if !records {
		l.serveJSON(w, wire.NewBlock(h))
		return
	}
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
	l.serveJSON(w, page)
}

func (l *testLog) serveJSON(w http.ResponseWriter, answer any) {
	data, err := json.Marshal(answer)
	if err != nil {
		l.t.Error(err)
	}
	_, _ = w.Write(data)
}

// codes returns the codes of findings.
func codes(found []Finding) string {
	var list []string
	for _, f := range found {
		list = append(list, f.Code)
	}
	return strings.Join(list, " ")
}

// testWitness returns a witness's signer and key.
func testWitness(t testing.TB, name string, seed byte) (note.Signer, string) {
	t.Helper()
	_, vkey := signedlog.Key(name, seed)
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

// testRand returns a generator whose numbers are the same in each run.
func testRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
