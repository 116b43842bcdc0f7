package storagenode

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// TestPutAll checks that PutAll accepts what Put accepts, and syncs in groups. It must refuse a bad block, and the
// blocks before it must be durable.
func TestPutAll(t *testing.T) {
	const height = 600 // more than two groups
	c := newTestChain(61)
	c.growTo(t, height)
	feed := func(to int, end error) func() (chain.Block, error) {
		next := 0
		return func() (chain.Block, error) {
			if next == to {
				return chain.Block{}, end
			}
			next++
			return c.blocks[next-1], nil
		}
	}
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 20_000})
	if err := n.PutAll(feed(height, io.EOF)); err != nil {
		t.Fatal(err)
	}
	c.check(t, n, height)
	if err := n.PutAll(feed(1, io.EOF)); !errors.Is(err, wire.ErrBadBlock) {
		t.Errorf("the chain's first block behind its last: %v", err)
	}
	crash(t, n)
	verified(t, n.cfg.Dir, c, height)

	broken := errors.New("the source")
	n = mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t)})
	if err := n.PutAll(feed(10, broken)); !errors.Is(err, broken) || n.Status().Height != 10 {
		t.Errorf("%v at height %d", err, n.Status().Height)
	}
	crash(t, n)
	verified(t, n.cfg.Dir, c, 10)
}

// TestReadFolder checks that ReadFolder passes the blocks in order, each with the head after it, and ends at the first
// bad one.
func TestReadFolder(t *testing.T) {
	const height = 40
	c, cfg := filled(t, 62, height)
	before := tree(t, cfg.Dir)
	v := chain.NewVerifier(chain.Head{})
	last, all, given := int64(0), int64(0), 0
	head, err := offline(cfg.Dir).Read(t.Context(), func(done, total int64) { last, all = done, total },
		func(b *chain.Block, head chain.Head) error {
			if !bytes.Equal(b.Bytes(), c.blocks[given].Bytes()) {
				t.Errorf("block %d is another", given)
			}
			given++
			if _, err := v.Take(b); err != nil || !reflect.DeepEqual(v.Head(), head) {
				t.Errorf("block %d leads to %+v, %v", given, head, err)
			}
			return nil
		})
	if err != nil || given != height || !reflect.DeepEqual(head, v.Head()) || last != all || all == 0 {
		t.Errorf("%d blocks, %d of %d bytes, %v", given, last, all, err)
	}
	if tree(t, cfg.Dir) != before {
		t.Error("the folder was changed")
	}
	stop := errors.New("enough")
	if head, err := offline(cfg.Dir).Read(t.Context(), nil, func(b *chain.Block, _ chain.Head) error {
		if b.Header.Block == 3 {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) || head.Height != 4 {
		t.Errorf("stopped: %v at %d", err, head.Height)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	nothing := func(*chain.Block, chain.Head) error { return nil }
	if _, err := offline(cfg.Dir).Read(ctx, nil, nothing); !errors.Is(err, stop) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := offline(t.TempDir()).Read(t.Context(), nil, nothing); err == nil {
		t.Error("no folder of a node was read")
	}
	n := mustOpen(t, cfg)
	path, p := segmentOf(t, n, 7)
	mustClose(t, n)
	flip(t, path, p.Offset+segment.FrameHeader+int64(p.Length)-1)
	var bad *chain.BlockError
	if head, err := offline(cfg.Dir).Read(t.Context(), nil, nothing); !errors.As(err, &bad) || bad.Block != 7 ||
		head.Height != 7 {
		t.Errorf("a damaged block: %v at %d", err, head.Height)
	}
}
