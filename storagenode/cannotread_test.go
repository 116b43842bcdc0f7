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

// badSectors fails reads of a part of one file. A file that replaces it is good.
type badSectors struct{ atomic.Pointer[badSector] }

type badSector struct {
	inode    uint64
	from, to int64
}

func (b *badSectors) open(path string, flag int) (segment.File, error) {
	file, err := segment.OpenFile(path, flag)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	return &sectorFile{file, b, inode(info)}, err
}

type sectorFile struct {
	segment.File
	bad   *badSectors
	inode uint64
}

func (f *sectorFile) ReadAt(data []byte, at int64) (int, error) {
	if b := f.bad.Load(); b != nil && f.inode == b.inode && at < b.to && at+int64(len(data)) > b.from {
		return 0, &os.PathError{Op: "read", Path: "segment", Err: syscall.EIO}
	}
	return f.File.ReadAt(data, at)
}

// TestCheckOfABadSector checks that a block that the device cannot read is reported apart from bad ones, that the check
// does not count as one that looked at everything, and that it does not hide the rest. The block can be received again.
func TestCheckOfABadSector(t *testing.T) {
	const height, unread, flipped = 60, 20, 41
	c, filledCfg := filled(t, 42, height)
	source := c.source(t)
	for name, header := range map[string]bool{"of a block": false, "of a header": true} {
		t.Run(name, func(t *testing.T) {
			var bad badSector
			var disk badSectors
			cfg := Config{Dir: copyDir(t, filledCfg.Dir), SegmentBytes: 2000, open: disk.open}
			n := mustOpen(t, cfg)
			path, p := segmentOf(t, n, unread)
			_, seg, _ := n.index.Get(unread)
			want := chain.Range{From: unread, To: unread + 1}
			bad.from, bad.to = p.End()-1, p.End()
			if header {
				want = chain.Range{From: seg, To: seg + 1}
				bad.from, bad.to = 0, 4
			}
			info, err := os.Stat(path)
			must(t, err)
			bad.inode = inode(info)
			disk.Store(&bad)
			checked := func(name string, apart bool) wire.CheckStatus {
				t.Helper()
				o := wire.CheckOrder{Check: name, Height: height, Hash: c.statusAt(height).Hash, Unread: apart}
				_, err := n.Check(o)
				must(t, err)
				<-n.check.job.ended
				status, err := n.Check(o)
				must(t, err)
				return status
			}
			status := checked("1", true)
			if status.Report != nil || !strings.Contains(status.Error, syscall.EIO.Error()) || status.Blocks != height {
				t.Errorf("%+v, report %+v", status, status.Report)
			}
			if u := status.Unread; u == nil || len(u.Bad) != 1 || u.Bad[0] != want || len(u.Findings) != 1 ||
				u.Findings[0].DetailCoded.Code != wire.CodeFileUnreadable || u.Unchecked != height {
				t.Fatalf("unread: %+v", u)
			}
			otherPath, other := segmentOf(t, n, flipped)
			flip(t, otherPath, other.End()-1)
			status = checked("2", true)
			if r := status.Report; r == nil || len(r.Bad) != 1 || r.Bad[0].From != flipped ||
				r.Unchecked != want.From || status.Error == "" || status.Unread == nil || r.Complete {
				t.Errorf("with a flipped bit: %+v, report %+v", status, r)
			}
			if status = checked("3", false); status.Unread != nil || status.Report == nil {
				t.Errorf("for an older leader: %+v", status)
			} else if r := status.Report; !header && (len(r.Bad) != 2 || status.Error != "") {
				t.Errorf("for an older leader: %+v, report %+v", status, r)
			}
			disk.Store(&badSector{bad.inode, 0, 1 << 40})
			if u := checked("4", true).Unread; u == nil || len(u.Bad) != 1 || u.Bad[0] != segmentSpan(t, n, unread) {
				t.Errorf("a segment that cannot be read: %+v", u)
			}
			disk.Store(&bad)
			c.repairAll(t, source, n, height, []chain.Range{want, {From: flipped, To: flipped + 1}})
		})
	}
}

// TestCheckWithoutADevice checks that no block is reported as unreadable, and the check as ended early, if no block can
// be read at all.
func TestCheckWithoutADevice(t *testing.T) {
	const height = 30
	c, cfg := filled(t, 43, height)
	f := failingReads{name: ".seg"}
	cfg.open = f.open
	n := mustOpen(t, cfg)
	f.on.Store(true)
	o := wire.CheckOrder{Check: "1", Height: height, Hash: c.statusAt(height).Hash, Unread: true}
	_, err := n.Check(o)
	must(t, err)
	<-n.check.job.ended
	status, err := n.Check(o)
	must(t, err)
	if status.Report != nil || status.Unread != nil || !strings.Contains(status.Error, syscall.EIO.Error()) {
		t.Errorf("%+v", status)
	}
	f.on.Store(false)
	c.check(t, n, height)
	mustClose(t, n)
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
