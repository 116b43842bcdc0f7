package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

const (
	projectToken = "project-token-of-the-tests"
	adminToken   = "admin-token-of-the-tests"
	fakeTime     = 1_700_000_000_000
	// fakeBlock is how many records a block of the fake has.
	fakeBlock = 4
)

// fakeCluster is a master as a user sees it. It holds its clients to the API: tokens, bodies, headers.
type fakeCluster struct {
	t      testing.TB
	url    string
	blocks []wire.Block

	mu      sync.Mutex
	status  wire.Cluster
	records []wire.Record
	byKey   map[string][]wire.Position // of batches and records
	limit   int                        // of a record, bytes
	// before is asked before an append is carried out; it reports whether it has answered.
	before func(w http.ResponseWriter, entries int) bool
	// after is asked when it was carried out, in the same way.
	after    func(w http.ResponseWriter) bool
	projects fakeProjects
	// streaming is called with each stream that is asked for.
	streaming func()

	integrity fakeIntegrity
	log       wire.Log
	uncovered int // how often it is asked for a receipt, or would give one, before a checkpoint covers the record
}

func newFakeCluster(t testing.TB) *fakeCluster {
	f := &fakeCluster{t: t, byKey: map[string][]wire.Position{}, limit: 1 << 20}
	for _, b := range testChain(t, 3) {
		f.blocks = append(f.blocks, wire.NewBlock(b.Header))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/records", f.project(f.append))
	mux.HandleFunc("POST /v1/records:batch", f.project(f.appendBatch))
	mux.HandleFunc("GET /v1/records", f.project(f.list))
	mux.HandleFunc("GET /v1/records/stream", f.project(f.stream))
	mux.HandleFunc("GET /v1/records/{index}", f.project(f.byIndex))
	mux.HandleFunc("GET /v1/blocks/{block}/records/{offset}", f.project(f.byPosition))
	mux.HandleFunc("GET /v1/records/{index}/{what}", f.project(f.receipt))
	mux.HandleFunc("GET /v1/blocks/{block}/records/{offset}/{what}", f.project(f.receipt))
	mux.HandleFunc("GET /v1/blocks", f.any(f.listBlocks))
	mux.HandleFunc("GET /v1/cluster", f.any(f.cluster))
	f.handleProjects(mux)
	f.handleIntegrity(mux)
	f.handleMasters(mux)
	f.handleLog(mux)
	server := httptest.NewUnstartedServer(mux)
	f.url = "http://" + server.Listener.Addr().String() // the handlers tell it
	f.status = sampleStatus()
	server.Start()
	t.Cleanup(server.Close)
	return f
}

// use makes the fake the cluster that the environment names.
func (f *fakeCluster) use(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv(envMasters, f.url)
	t.Setenv(envToken, projectToken)
	t.Setenv(envAdminToken, adminToken)
	t.Setenv("TZ", "UTC")
}

func (f *fakeCluster) lets(tokens ...string) func(http.HandlerFunc) http.HandlerFunc {
	return func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for _, token := range tokens {
				if r.Header.Get("Authorization") == "Bearer "+token {
					f.mu.Lock()
					defer f.mu.Unlock()
					h(w, r)
					return
				}
			}
			problem(w, http.StatusUnauthorized, wire.ErrUnauthorized.Name, "Unknown token")
		}
	}
}

func (f *fakeCluster) project(h http.HandlerFunc) http.HandlerFunc { return f.lets(projectToken)(h) }
func (f *fakeCluster) admin(h http.HandlerFunc) http.HandlerFunc   { return f.lets(adminToken)(h) }
func (f *fakeCluster) any(h http.HandlerFunc) http.HandlerFunc {
	return f.lets(projectToken, adminToken)(h)
}

func problem(w http.ResponseWriter, status int, name, title string) {
	w.Header().Set("Content-Type", wire.TypeProblem)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(wire.Problem{Type: wire.ProblemBase + name, Title: title, Status: status})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// take appends records, once for an idempotency key.
func (f *fakeCluster) take(w http.ResponseWriter, r *http.Request, entries []chain.Record) ([]wire.Position, bool) {
	for i := range entries {
		if len(entries[i].Payload) > f.limit {
			problem(w, http.StatusRequestEntityTooLarge, wire.ErrTooLarge.Name, fmt.Sprintf("Record of more than %d bytes", f.limit))
			return nil, false
		}
	}
	if f.before != nil && f.before(w, len(entries)) {
		return nil, false
	}
	key := r.Header.Get(wire.HeaderIdempotencyKey)
	positions, again := f.byKey[key]
	if !again {
		for i := range entries {
			e := &entries[i]
			n := uint64(len(f.records))
			e.Project, e.Time = 1, fakeTime
			leaf := e.Leaf()
			at := wire.Position{
				Block: n / fakeBlock, Offset: uint32(n % fakeBlock), Index: n + n/fakeBlock, Time: fakeTime, Leaf: leaf.Hash(),
				State: wire.StateCommitted,
			}
			f.records = append(f.records, wire.Record{
				Position: at, Project: "default", ProjectID: 1, Key: e.Key, Type: e.Type, Size: leaf.Size, Salt: e.Salt[:],
				Commit: leaf.Commit, Payload: e.Payload,
			})
			positions = append(positions, at)
		}
		f.byKey[key] = positions
	}
	if f.after != nil && f.after(w) {
		return nil, false
	}
	return positions, true
}

func (f *fakeCluster) append(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	positions, ok := f.take(w, r, []chain.Record{{Key: r.Header.Get(wire.HeaderKey), Type: r.Header.Get("Content-Type"), Payload: body}})
	if !ok {
		return
	}
	at, status := positions[0], http.StatusCreated
	if r.URL.Query().Get("wait") == wire.StateStored {
		if at.Block < f.status.Stored {
			at.State = wire.StateStored
		} else {
			status = http.StatusAccepted
		}
	}
	answer := wire.Appended{Position: at}
	if status == http.StatusCreated && r.URL.Query().Get("wait") != "" {
		answer.Receipt = f.receiptOf(at.Index)
	}
	reply(w, status, answer)
}

func (f *fakeCluster) appendBatch(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	var entries []chain.Record
	err = wire.ParseFrames(body, func(key, typ, payload []byte) error {
		entries = append(entries, chain.Record{Key: string(key), Type: string(typ), Payload: bytes.Clone(payload)})
		return nil
	})
	if err != nil {
		f.t.Errorf("batch: %v", err)
	}
	if positions, ok := f.take(w, r, entries); ok {
		reply(w, http.StatusCreated, wire.Positions{Records: positions})
	}
}

// listed are the records that a request means.
func (f *fakeCluster) listed(r *http.Request, from uint64) (list []wire.Record) {
	q := r.URL.Query()
	number := func(name string) uint64 {
		if q.Get(name) == "" {
			return 0
		}
		n, err := strconv.ParseUint(q.Get(name), 10, 64)
		if err != nil {
			f.t.Error(err)
		}
		return n
	}
	until := number("until")
	for i := range f.records {
		r := &f.records[i]
		if r.Index >= max(from, number("from")) && (q.Get("key") == "" || r.Key == q.Get("key")) && r.Time >= number("since") && (until == 0 || r.Time < until) {
			list = append(list, *r)
		}
	}
	return list
}

// list gives pages of at most two records, so that a list takes several.
func (f *fakeCluster) list(w http.ResponseWriter, r *http.Request) {
	if p := r.URL.Query().Get("project"); p != "" && p != "default" {
		problem(w, http.StatusForbidden, wire.ErrForbidden.Name, "Not with this token")
		return
	}
	var from uint64
	if cursor := r.URL.Query().Get("cursor"); cursor != "" {
		from, _ = strconv.ParseUint(cursor, 10, 64)
	}
	page := wire.Records{Records: f.listed(r, from)}
	if len(page.Records) > 2 {
		page.Next = fmt.Sprint(page.Records[2].Index)
		page.Records = page.Records[:2]
	}
	reply(w, http.StatusOK, page)
}

// stream gives what is there, and breaks off.
func (f *fakeCluster) stream(w http.ResponseWriter, r *http.Request) {
	var from uint64
	if last := r.Header.Get(wire.HeaderLastEventID); last != "" {
		id, err := strconv.ParseUint(last, 10, 64)
		if err != nil {
			f.t.Error(err)
		}
		from = id + 1
	}
	if f.streaming != nil {
		f.streaming()
	}
	w.Header().Set("Content-Type", wire.TypeEvents)
	_, _ = fmt.Fprint(w, ": alive\n\n")
	for _, record := range f.listed(r, from) {
		data, _ := json.Marshal(record)
		_, _ = fmt.Fprintf(w, "id: %d\nevent: record\ndata: %s\n\n", record.Index, data)
	}
}

func (f *fakeCluster) byIndex(w http.ResponseWriter, r *http.Request) {
	index, err := strconv.ParseUint(r.PathValue("index"), 10, 64)
	if err != nil {
		f.t.Error(err)
	}
	for i := range f.records {
		if f.records[i].Index == index {
			reply(w, http.StatusOK, f.records[i])
			return
		}
	}
	if index%(fakeBlock+1) == fakeBlock {
		problem(w, http.StatusNotFound, wire.ErrSealIndex.Name, "Index of a seal")
		return
	}
	problem(w, http.StatusNotFound, wire.ErrNotFound.Name, "Not found")
}

func (f *fakeCluster) byPosition(w http.ResponseWriter, r *http.Request) {
	for i := range f.records {
		at := f.records[i].Position
		if fmt.Sprint(at.Block) == r.PathValue("block") && fmt.Sprint(at.Offset) == r.PathValue("offset") {
			reply(w, http.StatusOK, f.records[i])
			return
		}
	}
	problem(w, http.StatusNotFound, wire.ErrNotFound.Name, "Not found")
}

// listBlocks gives pages of at most two blocks, so that a list takes several.
func (f *fakeCluster) listBlocks(w http.ResponseWriter, r *http.Request) {
	before := len(f.blocks)
	if cursor := r.URL.Query().Get("cursor"); cursor != "" {
		before, _ = strconv.Atoi(cursor)
	}
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil || limit < 1 {
		f.t.Errorf("limit %q", r.URL.Query().Get("limit"))
	}
	var page wire.Blocks
	for i := before - 1; i >= 0 && len(page.Blocks) < min(limit, 2); i-- {
		page.Blocks = append(page.Blocks, f.blocks[i])
		page.Next = strconv.Itoa(i)
	}
	if page.Next == "0" {
		page.Next = ""
	}
	reply(w, http.StatusOK, page)
}

func (f *fakeCluster) cluster(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, f.status)
}

// payloads is what was appended, in order.
func (f *fakeCluster) payloads() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for i := range f.records {
		all = append(all, string(f.records[i].Payload))
	}
	return all
}

// set changes the fake while nobody else uses it.
func (f *fakeCluster) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// sampleStatus is the status of a healthy cluster.
func sampleStatus() wire.Cluster {
	hash := chain.Hash{0x00, 0x00, 0xab, 0xcd, 0xef}
	return wire.Cluster{
		Group: "cs-group", Epoch: 1, Leader: "aaaabbbbccccdddd", Term: 7,
		Head:   wire.Head{Height: 12, Hash: hash, Size: 34579},
		Stored: 11, Replicas: 2, Checkpoint: wire.Checkpoints{Height: 11, Size: 32001, PublishedSize: 31744},
		Masters: []wire.Master{
			{ID: "aaaabbbbccccdddd", URL: "http://127.0.0.1:8000", Raft: "127.0.0.1:8010", State: "leader", Voter: true},
			{ID: "eeeeffffgggghhhh", URL: "http://127.0.0.1:8001", Raft: "127.0.0.1:8011", State: "follower", Voter: true},
			{ID: "iiiijjjjkkkkllll", Raft: "127.0.0.1:8012", State: "unreachable", Voter: true},
		},
		Storages: []wire.Storage{
			{ID: "s-aaaabbbbcccc", URL: "http://127.0.0.1:8082", State: "valid", Height: 12, Live: true},
			{ID: "s-ddddeeeeffff", URL: "http://127.0.0.1:8083", State: "invalid", Height: 3, Cause: "behind"},
		},
		Miners:  []wire.Miner{{ID: "m-aaaabbbbcccc", URL: "http://127.0.0.1:8079", Live: true}},
		Buffer:  wire.Amount{Records: 1, Bytes: 300},
		Pending: wire.Pending{Blocks: 1, Bytes: 5 << 20},
		Keys:    wire.Keys{Remembered: 1200, Seconds: 598.7},
		Notices: []string{"storage node s-ddddeeeeffff is invalid: behind what the masters hold, it is repaired from another node"},
	}
}

// testChain is a chain of blocks of fakeBlock records each, mined.
func testChain(t testing.TB, blocks int) []chain.Block {
	t.Helper()
	verifier := chain.NewVerifier(chain.Head{})
	var all []chain.Block
	for n := range blocks {
		head := verifier.Head()
		tree := head.Tree
		var ends []uint32
		var encoded []byte
		at := uint64(fakeTime + 1000*n)
		for i := range fakeBlock {
			r := chain.Record{Project: 1, Time: at, Salt: [16]byte{byte(n), byte(i)}, Type: textType, Payload: fmt.Appendf(nil, "record %d of block %d", i, n)}
			tree = tree.Append(r.Leaf().Hash())
			encoded = r.AppendTo(encoded)
			ends = append(ends, uint32(len(encoded)))
		}
		h := chain.Header{
			Version: chain.Version, Block: head.Height, First: head.Tree.Size(), Count: fakeBlock, Prev: head.Hash, Root: tree.Root(),
			Time: at, Difficulty: 4,
		}
		nonce, found := chain.Solve(h.Inner(), h.Difficulty, 0, 1<<16)
		if !found {
			t.Fatal("no nonce")
		}
		h.Nonce = nonce
		block, err := chain.NewBlock(h, ends, encoded)
		if err == nil {
			_, err = verifier.Take(&block)
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, block)
	}
	return all
}

// run runs a command line in this process.
func run(t *testing.T, stdin io.Reader, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	return runContext(t.Context(), stdin, args...)
}

func runContext(ctx context.Context, stdin io.Reader, args ...string) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	cmd := newRootCommand()
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	err = cmd.ExecuteContext(ctx)
	return out.String(), errs.String(), err
}

// mustFail holds an error against a part of its text.
func mustFail(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", part)
	}
	if !strings.Contains(err.Error(), part) {
		t.Fatalf("error %q; want one with %q", err, part)
	}
	for _, token := range []string{projectToken, adminToken} {
		if strings.Contains(err.Error(), token) {
			t.Fatalf("error %q holds a token", err)
		}
	}
}

// writeFile writes a file into a new folder and returns its path.
func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
