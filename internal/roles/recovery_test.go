package roles

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// survivorLog is a survivor's folder as an in-memory log: see [raftstore.Recovery].
type survivorLog struct {
	t              *testing.T
	log            [][]byte
	state          *masterfsm.State
	mined          map[uint64]int // by block: number of entries before the one that mined it
	snapshotHeight uint64
	seq            uint64
}

const startTime = 1_700_000_000_000

// newSurvivor returns the log of a group with one project and blocks of four records. Its storage nodes are d1, d2 and
// so on.
func newSurvivor(t *testing.T, nodes ...*chainNode) *survivorLog {
	t.Helper()
	l := &survivorLog{t: t, state: masterfsm.New(), mined: map[uint64]int{}}
	settings := masterfsm.DefaultSettings()
	settings.MaxRecords, settings.Difficulty = 4, 1
	l.apply(&masterfsm.BeginTerm{Term: 1, Member: "m1", URL: "http://m1", Time: startTime, Group: "g",
		Settings: settings})
	l.apply(&masterfsm.CreateProject{Name: "one", TokenHash: chain.Hash{1}, Time: startTime})
	for _, n := range nodes {
		l.apply(&masterfsm.Register{Role: masterfsm.RoleStorage, ID: n.status.ID, URL: n.url, Time: startTime})
	}
	return l
}

func (l *survivorLog) apply(c masterfsm.Command) { l.applyBytes(masterfsm.Encode(c)) }

func (l *survivorLog) applyBytes(data []byte) {
	l.t.Helper()
	height := l.state.Head().Height
	if _, err := l.state.Apply(data); err != nil {
		l.t.Fatal(err)
	}
	if l.state.Head().Height > height {
		l.mined[height] = len(l.log)
	}
	l.log = append(l.log, data)
}

// fork returns a copy of the log, as another master has it.
func (l *survivorLog) fork() *survivorLog {
	other := &survivorLog{t: l.t, state: masterfsm.New(), mined: map[uint64]int{}, seq: l.seq}
	for _, data := range l.log {
		other.applyBytes(data)
	}
	return other
}

// append appends records without mining the blocks that they fill.
func (l *survivorLog) append(count int, text string) {
	l.t.Helper()
	l.seq++
	sub := masterfsm.NewSubmission(nil, "m1", 1, l.seq)
	sub.StartRequest(1, masterfsm.Digest{}, masterfsm.Digest{1})
	for i := range count {
		record := chain.Record{Project: 1, Type: "text/plain", Payload: fmt.Appendf(nil, "%s %d", text, i)}
		sub.AddEncoded(record.Commit(), record.AppendTo(nil))
	}
	l.applyBytes(masterfsm.EncodeAppend(startTime+l.seq,
		masterfsm.Leadership{Term: l.state.Term().Term, Elapsed: l.seq},
		sub.Bytes()))
}

// mine mines the next block, starting with a given nonce.
func (l *survivorLog) mine(from uint64) {
	l.t.Helper()
	header := *l.state.View().Waiting
	nonce, found := chain.Solve(header.Inner(), header.Difficulty, from, 1<<20)
	if !found {
		l.t.Fatal("no nonce")
	}
	l.apply(&masterfsm.Mined{Block: header.Block, Nonce: nonce, Time: startTime + l.seq})
}

// grow appends and mines a number of blocks.
func (l *survivorLog) grow(blocks int, text string) {
	l.t.Helper()
	for i := range blocks {
		l.append(4, fmt.Sprint(text, i))
		l.mine(0)
	}
}

// blocks returns the blocks that the log has mined.
func (l *survivorLog) blocks() (blocks []chain.Block) {
	l.t.Helper()
	for n := range l.state.Head().Height {
		b, ok := l.state.Block(n)
		if !ok {
			l.t.Fatalf("block %d is not held", n)
		}
		blocks = append(blocks, b)
	}
	return blocks
}

func (l *survivorLog) State() *masterfsm.State { return l.state }
func (l *survivorLog) SnapshotHeight() uint64  { return l.snapshotHeight }

func (l *survivorLog) ReadBefore(block uint64) error {
	l.state = masterfsm.New()
	for _, data := range l.log[:l.mined[block]] {
		if _, err := l.state.Apply(data); err != nil {
			return err
		}
	}
	return nil
}

// chainNode is a storage node that serves its chain.
type chainNode struct {
	url    string
	status wire.ChainStatus
	blocks []chain.Block
	bad    map[uint64]bool // unreadable blocks, at which its response ends

	mu     sync.Mutex           // guards the fields below
	quiet  func() time.Duration // time since a leader's last order; nil means a day
	raised []wire.NewEpoch
	refuse int // status of the response to a new epoch, 0 for success
}

func newChainNode(t *testing.T, id string) *chainNode {
	n := &chainNode{status: wire.ChainStatus{ID: id, Group: "g", Epoch: 1}, bad: map[uint64]bool{}}
	n.ledIn(1)
	server := httptest.NewServer(older(n))
	t.Cleanup(server.Close)
	n.url = server.URL
	return n
}

// ledIn sets the epoch of the newest leader that the node knows.
func (n *chainNode) ledIn(epoch uint64) { n.status.LedEpoch = &epoch }

// has sets the blocks of the node.
func (n *chainNode) has(blocks []chain.Block) {
	n.blocks, n.status.Height, n.status.Hash = blocks, uint64(len(blocks)), chain.Hash{}
	if len(blocks) > 0 {
		n.status.Hash = blocks[len(blocks)-1].Header.Hash()
	}
}

func (n *chainNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch r.URL.Path {
	case wire.PathChainEpoch:
		var order wire.NewEpoch
		if err := json.NewDecoder(r.Body).Decode(&order); err != nil || n.refuse != 0 {
			w.WriteHeader(n.refuse)
			return
		}
		n.raised = append(n.raised, order)
		n.status.Epoch = order.Epoch
		if order.Keep != nil {
			n.has(n.blocks[:*order.Keep])
		}
		fallthrough
	case wire.PathChain:
		quiet := uint64(24 * time.Hour / time.Millisecond)
		if n.quiet != nil {
			quiet = uint64(n.quiet().Milliseconds())
		}
		status := n.status
		status.QuietMillis = &quiet
		data, _ := json.Marshal(status)
		w.Header().Set("Content-Type", "application/json")
		w.Write(data)
		return
	}
	from, _ := strconv.Atoi(r.URL.Query().Get("from"))
	to, _ := strconv.Atoi(r.URL.Query().Get("to"))
	for _, b := range n.blocks[from:to] {
		if n.bad[b.Header.Block] {
			return
		}
		w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b.Bytes()))))
		w.Write(b.Bytes())
	}
}

// recoverFrom runs the recovery of a survivor up to the point at which it would write the folder.
func recoverFrom(t *testing.T, l *survivorLog, fromStorage ...string) (*recovery, error) {
	t.Helper()
	return recoverWith(t, l, RecoverConfig{FromStorage: fromStorage})
}

// recoverWith is like recoverFrom, with a configuration.
func recoverWith(t *testing.T, l *survivorLog, cfg RecoverConfig) (*recovery, error) {
	t.Helper()
	fromStorage := cfg.FromStorage
	r := &recovery{cfg: cfg, folder: l, masters: recoveryCalls(),
		fresh: len(fromStorage) > 0}
	t.Cleanup(r.masters.CloseIdle)
	if len(fromStorage) == 0 {
		r.plan = Recovery{Group: "g", Member: "m1", Epoch: 1}
	}
	if err := r.ask(t.Context()); err != nil {
		return r, err
	}
	return r, r.adopt(t.Context())
}

// isAt checks that the chain of a recovered state ends with the last of the given blocks.
func (r *recovery) isAt(t *testing.T, blocks []chain.Block) {
	t.Helper()
	head := r.state().Head()
	if head.Height != uint64(len(blocks)) || head.Hash != blocks[len(blocks)-1].Header.Hash() {
		t.Errorf("the chain ends at %d with %v, not at %d", head.Height, head.Hash, len(blocks))
	}
}

// TestRecoverForkedSurvivor recovers a survivor that was deposed while it mined a block. The other masters mined a
// different block with the same records, or with others, and stored and acknowledged it. The recovery must use their
// block, whether their chain ends before it, at it, or after it.
func TestRecoverForkedSurvivor(t *testing.T) {
	for _, records := range []string{"same", "other"} {
		for more := range 3 {
			for own := range 3 { // blocks that the survivor mined after its own
				d1, d2 := newChainNode(t, "d1"), newChainNode(t, "d2")
				l := newSurvivor(t, d1, d2)
				l.grow(3, "common")
				d2.has(l.blocks())
				others := l.fork()
				l.append(4, "deposed")
				if records == "same" {
					others = l.fork()
				} else {
					others.append(4, "acknowledged")
				}
				l.mine(0)
				l.grow(own, "never")
				others.mine(l.blocks()[3].Header.Nonce + 1)
				others.grow(more, "more")
				d1.has(others.blocks())

				r, err := recoverFrom(t, l)
				if err != nil {
					t.Fatalf("%s records, %d blocks more, %d of its own: %v", records, more, own, err)
				}
				r.isAt(t, others.blocks())
				if !r.plan.Forked || r.plan.Fork != 3 || r.plan.Height != 3 || r.plan.Adopted != 1+more ||
					len(r.plan.Foreign) > 0 {
					t.Errorf("%s records, %d blocks more: %+v", records, more, r.plan)
				}
				if r.plan.Replicated != 3 || r.plan.Single != 0 {
					t.Errorf("%d blocks are on two nodes: %+v", 3, r.plan)
				}
			}
		}
	}
}

// TestRecoverForeignChain checks that a block that is committed according to the table, a snapshot or another storage
// node takes precedence over a node with a different block.
func TestRecoverForeignChain(t *testing.T) {
	for _, shown := range []string{"by the table", "by the snapshot", "by another node"} {
		for more := range 2 {
			d1, d2 := newChainNode(t, "d1"), newChainNode(t, "d2")
			l := newSurvivor(t, d1, d2)
			l.grow(2, "common")
			foreign := l.fork()
			foreign.grow(1+more, "foreign")
			d1.has(foreign.blocks())
			d2.has(l.blocks())
			l.grow(1, "committed")
			switch shown {
			case "by the table":
				l.apply(&masterfsm.Acknowledge{Nodes: []masterfsm.NodeHeight{{ID: "d2", Version: 1, Height: 3}},
					Time: startTime})
			case "by the snapshot":
				l.snapshotHeight = 3
			default:
				d2.has(l.blocks())
			}
			own := l.blocks()
			r, err := recoverFrom(t, l)
			if more > 0 {
				if err == nil || strings.Contains(err.Error(), "--without") || !strings.Contains(err.Error(), d1.url) {
					t.Errorf("%s: %v", shown, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", shown, err)
			}
			r.isAt(t, own)
			if len(r.plan.Foreign) != 1 || r.plan.Foreign[0] != d1.url || r.plan.Forked {
				t.Errorf("%s: %+v", shown, r.plan)
			}
		}
	}
}

// TestRecoverContradiction checks that the recovery is refused if two storage nodes have different blocks beyond the
// survivor's state, because the right one is unknown.
func TestRecoverContradiction(t *testing.T) {
	d1, d2 := newChainNode(t, "d1"), newChainNode(t, "d2")
	l := newSurvivor(t, d1, d2)
	l.grow(2, "common")
	one, two := l.fork(), l.fork()
	one.grow(2, "one")
	two.grow(1, "two")
	d1.has(one.blocks())
	d2.has(two.blocks())
	if _, err := recoverFrom(t, l); err == nil || !strings.Contains(err.Error(), "different blocks") {
		t.Errorf("recovered: %v", err)
	}
	empty := &survivorLog{t: t, state: masterfsm.New()}
	if _, err := recoverFrom(t, empty, d1.url, d2.url); err == nil ||
		!strings.Contains(err.Error(), "different blocks") {
		t.Errorf("recovered from storage: %v", err)
	}
}

// TestRecoverPatchwork checks the case that the highest chain has an unreadable block, and a lower one has this block.
// The blocks after it must be requested again from the highest chain.
func TestRecoverPatchwork(t *testing.T) {
	for _, fromStorage := range []bool{false, true} {
		d1, d2 := newChainNode(t, "d1"), newChainNode(t, "d2")
		l := newSurvivor(t, d1, d2)
		l.grow(4, "known")
		others := l.fork()
		others.grow(8, "more")
		blocks := others.blocks()
		d1.has(blocks[:8])
		d2.has(blocks)
		d1.bad[2], d2.bad[6] = true, true
		d2.status.Epoch, d1.status.Epoch = 3, 5
		var urls []string
		if fromStorage {
			l = &survivorLog{t: t, state: masterfsm.New()}
			urls = []string{d1.url, d2.url, d1.url + "/"}
		}
		r, err := recoverFrom(t, l, urls...)
		if err != nil {
			t.Fatal(err)
		}
		r.isAt(t, blocks)
		if r.plan.Epoch != 6 || r.plan.Source != d2.url || r.plan.ChainHeight != 12 || r.plan.Replicated != 8 ||
			r.state().Stored() != 8 {
			t.Errorf("%d blocks stored: %+v", r.state().Stored(), r.plan)
		}
		d1.bad[6] = true
		if fromStorage {
			l = &survivorLog{t: t, state: masterfsm.New()}
		} else {
			l = newSurvivor(t, d1, d2)
		}
		if _, err := recoverFrom(t, l, urls...); err == nil || !strings.Contains(err.Error(), "good block 6") {
			t.Errorf("recovered without block 6: %v", err)
		}
	}
}

// TestRecoverReplicated checks that a node does not count as a copy if it is invalid, or is not the node in the table.
func TestRecoverReplicated(t *testing.T) {
	for _, flaw := range []string{"", "invalid", "another node"} {
		d1, d2 := newChainNode(t, "d1"), newChainNode(t, "d2")
		l := newSurvivor(t, d1, d2)
		l.grow(3, "known")
		others := l.fork()
		others.grow(2, "more")
		d1.has(others.blocks())
		d2.has(others.blocks())
		want, cfg := uint64(5), RecoverConfig{}
		if flaw != "" {
			want = 0
		}
		switch flaw {
		case "invalid":
			l.apply(&masterfsm.Invalidate{ID: "d2", Version: 1, Cause: masterfsm.TextCause("test"), Time: startTime})
		case "another node":
			d2.status.ID = "d3"
			cfg.StorageLost = true
		}
		r, err := recoverWith(t, l, cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.isAt(t, others.blocks())
		if r.plan.Replicated != want || r.state().Stored() != want || r.plan.Single != 0 {
			t.Errorf("%s: %d blocks stored, %+v", flaw, r.state().Stored(), r.plan)
		}
	}
}

// recoveryCalls returns the calls of a recovery.
func recoveryCalls() *noderpc.Masters {
	return noderpc.NewMasters(toOlder(), nodeauth.Shared("token").For(nodeauth.Recovery))
}

// toOlder returns a transport whose calls send tokens to nodes of older versions.
func toOlder() *noderpc.Transport {
	transport := noderpc.NewTransport()
	transport.Identify(nodeauth.NewProcess(), func() string { return "test" }, func() bool { return true })
	return transport
}

// olderFunc is older for a function.
func olderFunc(f http.HandlerFunc) http.Handler { return older(f) }

// older is a node of an older version: it knows no sessions.
func older(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.PathSession {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}
