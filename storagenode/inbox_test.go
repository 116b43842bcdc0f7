package storagenode

import (
	"errors"
	"os"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/inbox"
	"github.com/chainstore/chainstore/wire"
)

func TestInbox(t *testing.T) {
	c := newTestChain(50)
	c.growTo(t, 12)
	cfg := Config{AtRest: testKeys, Dir: memDir(t), InboxBytes: 6 * inbox.Unit}
	n := mustOpen(t, cfg)
	put := func(number uint64) (Status, error) { return n.PutInbox(t.Context(), number, c.blocks[number].Bytes()) }
	for number := range uint64(3) {
		if _, err := n.Put(t.Context(), number, c.blocks[number].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		number uint64
		run    chain.Range
	}{
		{2, chain.Range{}}, {5, chain.Range{From: 5, To: 6}}, {7, chain.Range{From: 7, To: 8}}, {6,
			chain.Range{From: 5, To: 8}},
		{6, chain.Range{From: 5, To: 8}}, {8, chain.Range{From: 5, To: 9}}, {4, chain.Range{From: 4, To: 9}},
		{10, chain.Range{From: 10, To: 11}},
	} {
		if status, err := put(row.number); err != nil || status.Inbox != row.run || n.Status().Inbox != row.run {
			t.Fatalf("block %d: %+v, %v, want %v", row.number, status, err, row.run)
		}
	}
	if _, err := n.PutInbox(t.Context(), 9, c.blocks[8].Bytes()); !errors.Is(err, wire.ErrBadBlock) {
		t.Errorf("a block with another name: %v", err)
	}
	if _, err := n.PutInbox(t.Context(), 9, []byte("hello")); !errors.Is(err, wire.ErrBadBlock) {
		t.Errorf("no block: %v", err)
	}
	if _, err := put(9); !errors.Is(err, wire.ErrInboxFull) {
		t.Errorf("one too many: %v", err)
	}
	crash(t, n)
	must(t, os.WriteFile(cfg.Dir+"/inbox/.00000000000000000009.block.tmp-1", []byte("half"), 0o600))
	damaged := n.inbox.Path(6)
	flip(t, damaged, 8+8+4+40)
	n = mustOpen(t, cfg)
	if got := n.Status().Inbox; got != (chain.Range{From: 10, To: 11}) {
		t.Errorf("after a crash: %v", got)
	}
	// After block 3 the next two follow; the damaged one is moved aside.
	status, err := n.Put(t.Context(), 3, c.blocks[3].Bytes())
	if err != nil || status.Height != 6 {
		t.Fatalf("%+v, %v", status, err)
	}
	c.check(t, n2(n, status), 6)
	if kept := quarantined(t, n); len(kept) != 1 {
		t.Errorf("%d files in quarantine", len(kept))
	}
	if status, err = n.Put(t.Context(), 6, c.blocks[6].Bytes()); err != nil || status.Height != 9 {
		t.Fatalf("%+v, %v", status, err)
	}
	if status, err = put(9); err != nil || status.Inbox != (chain.Range{From: 9, To: 11}) {
		t.Fatalf("%+v, %v", status, err)
	}
	mustClose(t, n)
	n = mustOpen(t, cfg) // the blocks that follow are moved to the chain at the start
	c.check(t, n, 11)
	if entries, err := os.ReadDir(cfg.Dir + "/inbox"); err != nil || len(entries) != 0 {
		t.Errorf("left in the inbox: %v, %v", entries, err)
	}
	c.clean(t, n, 11)
}

// n2 returns a status without the inbox, which check does not compare.
func n2(n *Node, at Status) *Node {
	at.Inbox = chain.Range{}
	n.status.Store(&at)
	return n
}

// TestInboxOfOtherChain checks that a block that does not follow the end of the chain stays in the inbox, because the
// chain may be the wrong one.
func TestInboxOfOtherChain(t *testing.T) {
	c, other := newTestChain(51), newTestChain(52)
	c.growTo(t, 6)
	other.growTo(t, 6)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t)})
	for number := range uint64(4) {
		if _, err := n.Put(t.Context(), number, other.blocks[number].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.PutInbox(t.Context(), 5, c.blocks[5].Bytes()); err != nil {
		t.Fatal(err)
	}
	status, err := n.Put(t.Context(), 4, other.blocks[4].Bytes())
	if err != nil || status.Height != 5 || status.Inbox.From != 5 {
		t.Errorf("%+v, %v", status, err)
	}
}

// TestInboxFaults fails the write of a block to the inbox, with and without the block being written. The node must
// stop, and must not report a block that it may not have.
func TestInboxFaults(t *testing.T) {
	c := newTestChain(53)
	c.growTo(t, 4)
	for _, how := range []string{notDone, done} {
		cfg := Config{AtRest: testKeys, Dir: memDir(t)}
		cfg.writeFile = func(path string, data []byte, mode os.FileMode) error {
			if how == done {
				must(t, os.WriteFile(path, data, mode))
			}
			return errDisk
		}
		n := mustOpen(t, cfg)
		if status, err := n.PutInbox(t.Context(), 2, c.blocks[2].Bytes()); !errors.Is(err, ErrFailed) ||
			!errors.Is(err, errDisk) || status.Inbox.To != 0 {
			t.Fatalf("%+v, %v", status, err)
		}
		if err := <-n.Failed(); !errors.Is(err, errDisk) {
			t.Errorf("Failed delivers %v", err)
		}
		if _, err := n.PutInbox(t.Context(), 3, c.blocks[3].Bytes()); !errors.Is(err, ErrFailed) {
			t.Errorf("after a failure: %v", err)
		}
		mustClose(t, n)
		cfg.writeFile = nil
		n = mustOpen(t, cfg)
		if !n.Unclean() {
			t.Error("a stop after a failed write is not told")
		}
		if got := n.Status().Inbox.To; got != map[string]uint64{notDone: 0, done: 3}[how] {
			t.Errorf("%s: the inbox ends at %d", how, got)
		}
		mustClose(t, n)
	}
}

// TestStrayInInbox checks that a block after a gap is moved aside and does not block new ones. Leaders send blocks in
// order, so none has sent it.
func TestStrayInInbox(t *testing.T) {
	c := newTestChain(51)
	c.growTo(t, 8)
	cfg := Config{AtRest: testKeys, Dir: memDir(t)}
	n := mustOpen(t, cfg)
	mustClose(t, n)
	const far = 1 << 40
	must(t, os.WriteFile(n.inbox.Path(far), inbox.Encode(far, c.blocks[1].Bytes()), 0o600))
	n = mustOpen(t, cfg)
	if got := n.Status().Inbox; got != (chain.Range{From: far, To: far + 1}) {
		t.Fatalf("%v", got)
	}
	for number := uint64(3); number < 6; number++ {
		status, err := n.PutInbox(t.Context(), number, c.blocks[number].Bytes())
		if err != nil || status.Inbox != (chain.Range{From: 3, To: number + 1}) {
			t.Fatalf("%+v, %v", status, err)
		}
	}
	if kept := quarantined(t, n); len(kept) != 1 {
		t.Errorf("%d files in quarantine", len(kept))
	}
	for number := range uint64(3) {
		if _, err := n.Put(t.Context(), number, c.blocks[number].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	c.check(t, n, 6)
}
