package storagenode

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// failingReads fails all reads of the files whose name contains a text, while it is on.
type failingReads struct {
	name string
	on   atomic.Bool
}

func (f *failingReads) open(path string, flag int) (segment.File, error) {
	file, err := segment.OpenFile(path, flag)
	if err != nil || !strings.Contains(path, f.name) {
		return file, err
	}
	return &failingFile{file, f}, nil
}

type failingFile struct {
	segment.File
	by *failingReads
}

func (f *failingFile) ReadAt(data []byte, at int64) (int, error) {
	if f.by.on.Load() {
		return 0, &os.PathError{Op: "read", Path: f.by.name, Err: syscall.EIO}
	}
	return f.File.ReadAt(data, at)
}

// TestReadsThatTheSystemFails checks that errors of the system are not reported as damage: no descriptor is left, or
// the device reports an error. Afterwards everything is read again, and the index of records was not cut.
func TestReadsThatTheSystemFails(t *testing.T) {
	const height = 40
	c, filledCfg := filled(t, 41, height)
	for name, faults := range map[string]func(cfg *Config) *atomic.Bool{
		"no descriptor for a segment": func(cfg *Config) *atomic.Bool {
			f := new(failing)
			cfg.open = f.open
			return &f.on
		},
		"a segment's device": func(cfg *Config) *atomic.Bool {
			f := &failingReads{name: ".seg"}
			cfg.open = f.open
			return &f.on
		},
		"the tiles' device": func(cfg *Config) *atomic.Bool {
			f := &failingReads{name: "tiles/"}
			cfg.open = f.open
			return &f.on
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Dir: copyDir(t, filledCfg.Dir), SegmentBytes: 2000}
			on := faults(&cfg)
			cfg.Transfer = func(_ context.Context, _, _ string, write func(io.Writer) error) error {
				return write(io.Discard)
			}
			n := mustOpen(t, cfg)
			size := c.statusAt(height).Size
			n.indexer.await(t.Context(), size)
			n.files.mu.Lock()
			for seg := range n.files.open { // those that the indexer has opened
				must(t, n.files.forgetLocked(seg))
			}
			on.Store(true)
			n.files.mu.Unlock()
			tiles := name == "the tiles' device"
			if got := n.Read([]wire.Place{{Block: 3}}, nil)[0].Status; got != wire.ReadFailed {
				t.Errorf("a record: status %d", got)
			}
			e, err := n.Entries(t.Context(), 0, 5)
			if err != nil || e.Status != wire.ReadFailed {
				t.Errorf("entries: status %d, %v", e.Status, err)
			}
			if got := n.Tiles([]tlog.Tile{{H: wire.TileHeight, W: 5}}).Status; tiles && got != wire.ReadFailed {
				t.Errorf("a tile: status %d", got)
			}
			if list, err := n.Headers(3, 5, size); !errors.Is(err, wire.ErrUnavailable) || len(list) > 0 {
				t.Errorf("%d headers, %v", len(list), err)
			}
			if _, err := n.Block(3); !tiles && (!errors.Is(err, ErrCannotRead) || errors.Is(err, ErrDamaged)) {
				t.Errorf("a block: %v", err)
			}
			if _, err := n.indexer.next(); !tiles && err == nil {
				t.Error("the indexer goes on")
			}
			order := wire.SendOrder{To: "http://other", Ticket: "t", Pieces: c.pieces(chain.Range{From: 0, To: height})}
			if _, err := n.Send(order); err != nil {
				t.Fatal(err)
			}
			<-n.send.job.ended
			if s, err := n.Send(order); err != nil || s.Running || (s.Error == "") != tiles || s.Faulty {
				t.Errorf("sending: %+v, %v", s, err)
			}
			on.Store(false)
			if _, end, _ := n.indexer.index.End(); end != size {
				t.Errorf("the index of records ends at leaf %d of %d", end, size)
			}
			c.clean(t, n, height)
			mustClose(t, n)
		})
	}
}
