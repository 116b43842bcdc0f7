package storagenode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
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
			cfg := Config{AtRest: testKeys, Dir: copyDir(t, filledCfg.Dir), SegmentBytes: 2000, open: disk.open}
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
				_, err := n.Check(t.Context(), o)
				must(t, err)
				<-n.check.job.ended
				status, err := n.Check(t.Context(), o)
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

// unopenable fails to open one file for reading. A file that replaces it can be opened.
type unopenable struct{ atomic.Pointer[unopenableFile] }

type unopenableFile struct {
	inode uint64 // 0 for all segments
	err   error
}

func (u *unopenable) open(path string, flag int) (segment.File, error) {
	if f := u.Load(); f != nil && flag == os.O_RDONLY {
		if info, err := os.Stat(path); err == nil && (f.inode == inode(info) || f.inode == 0) {
			return nil, &os.PathError{Op: "open", Path: path, Err: f.err}
		}
	}
	return segment.OpenFile(path, flag)
}

// TestCheckOfAFileThatCannotBeOpened checks that the blocks of a segment that the system cannot open are reported like
// those that it cannot read, and that the check goes on behind them. If all blocks of the file are received again, the
// file is kept in quarantine/; otherwise nothing is replaced. A lack of descriptors or memory makes no block suspect.
func TestCheckOfAFileThatCannotBeOpened(t *testing.T) {
	const height, unread, flipped = 60, 20, 41
	c, filledCfg := filled(t, 44, height)
	source := c.source(t)
	for _, fault := range []error{syscall.EACCES, syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		for _, last := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, last %v", fault, last), func(t *testing.T) {
				var disk unopenable
				cfg := Config{AtRest: testKeys, Dir: copyDir(t, filledCfg.Dir), SegmentBytes: 2000, open: disk.open}
				n := mustOpen(t, cfg)
				block := uint64(unread)
				if last { // the file that is written
					block = height - 1
				}
				path, p := segmentOf(t, n, block)
				span := segmentSpan(t, n, block)
				info, err := os.Stat(path)
				must(t, err)
				otherPath, other := segmentOf(t, n, flipped)
				flip(t, otherPath, other.End()-1)
				disk.Store(&unopenableFile{inode(info), fault})
				o := wire.CheckOrder{Check: "1", Height: height, Hash: c.statusAt(height).Hash, Unread: true}
				_, err = n.Check(t.Context(), o)
				must(t, err)
				<-n.check.job.ended
				status, err := n.Check(t.Context(), o)
				must(t, err)
				r, u := status.Report, status.Unread
				if r == nil || len(r.Bad) != 1 || r.Bad[0].From != flipped || r.Complete || status.Blocks != height ||
					!strings.Contains(status.Error, fault.Error()) {
					t.Errorf("%+v, report %+v", status, r)
				}
				if durable.NoResources(fault) {
					if u != nil {
						t.Errorf("unread: %+v", u)
					}
					return
				}
				if u == nil || len(u.Bad) != 1 || u.Bad[0] != span ||
					u.Findings[0].DetailCoded.Code != wire.CodeFileUnreadable {
					t.Fatalf("unread: %+v", u)
				}
				one := chain.Range{From: span.From, To: span.From + 1}
				order := wire.ReceiveOrder{Ticket: "one", Keep: height, Pieces: c.pieces(one)}
				_, err = n.Receive(t.Context(), order)
				must(t, err)
				s := sent(t, source, n, wire.SendOrder{Ticket: order.Ticket, Pieces: order.Pieces})
				if !strings.Contains(s.Error, fault.Error()) || len(quarantined(t, n)) > 0 {
					t.Errorf("a part of the file: %+v", s)
				}
				missing := chain.AddRange([]chain.Range{span}, chain.Range{From: flipped, To: flipped + 1})
				c.repairAll(t, source, n, height, missing)
				kept := false
				for _, data := range quarantined(t, n) {
					kept = kept || int64(len(data)) >= p.End()
				}
				if !kept {
					t.Error("the old file is not in quarantine/")
				}
			})
		}
	}
}

// TestRepairOfAPathThatCannotBeOpened checks that a node goes on if the file that it writes cannot be opened after it
// was replaced either. The next block begins another file.
func TestRepairOfAPathThatCannotBeOpened(t *testing.T) {
	const height = 30
	c, cfg := filled(t, 46, height)
	source := c.source(t)
	var path atomic.Pointer[string]
	cfg.open = func(name string, flag int) (segment.File, error) {
		if at := path.Load(); at != nil && *at == name {
			return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EIO}
		}
		return segment.OpenFile(name, flag)
	}
	n := mustOpen(t, cfg)
	last, _ := segmentOf(t, n, height-1)
	span := segmentSpan(t, n, height-1)
	path.Store(&last)
	c.repair(t, source, n, height, span)
	path.Store(nil)
	c.growTo(t, height+5)
	c.putAll(t, n)
	c.clean(t, n, height+5)
	mustClose(t, n)
	verified(t, cfg.Dir, c, height+5)
}

// TestCheckWithoutADevice checks that a check reports all blocks as unread if no block can be read, also of a chain of
// one block, but only to a leader that does not take that for damage. A lack of descriptors is not about the blocks.
func TestCheckWithoutADevice(t *testing.T) {
	for _, height := range []uint64{1, 30} {
		c, cfg := filled(t, 43, int(height))
		f := failingReads{name: ".seg"}
		var u unopenable
		cfg.open = func(path string, flag int) (segment.File, error) {
			if _, err := u.open(path, flag|os.O_RDONLY); err != nil {
				return nil, err
			}
			return f.open(path, flag)
		}
		n := mustOpen(t, cfg)
		checked := func(name string, all bool) wire.CheckStatus {
			o := wire.CheckOrder{
				Check: name, Height: height, Hash: c.statusAt(int(height)).Hash, Unread: true, UnreadAll: all,
			}
			_, err := n.Check(t.Context(), o)
			must(t, err)
			<-n.check.job.ended
			status, err := n.Check(t.Context(), o)
			must(t, err)
			if status.Report != nil || status.Error == "" {
				t.Errorf("%s of %d: %+v", name, height, status)
			}
			return status
		}
		f.on.Store(true)
		if s := checked("an older leader", false); s.Unread != nil {
			t.Errorf("%+v", s.Unread)
		}
		if u := checked("EIO", true).Unread; u == nil || len(u.Bad) != 1 || u.Bad[0] != (chain.Range{To: height}) {
			t.Errorf("%d blocks: %+v", height, u)
		}
		f.on.Store(false)
		u.Store(&unopenableFile{err: syscall.EACCES})
		if u := checked("EACCES", true).Unread; u == nil || len(u.Bad) != 1 || u.Bad[0] != (chain.Range{To: height}) {
			t.Errorf("%d blocks: %+v", height, u)
		}
		u.Store(&unopenableFile{err: syscall.EMFILE})
		if u := checked("EMFILE", true).Unread; u != nil {
			t.Errorf("%d blocks: %+v", height, u)
		}
		u.Store(nil)
		c.check(t, n, int(height))
		mustClose(t, n)
	}
}

// TestCheckOfAChainOnABadSector checks that a node whose only block is on a bad sector says that its device reads, and
// that it does not say so if the device reads nothing, or if the file cannot be opened.
func TestCheckOfAChainOnABadSector(t *testing.T) {
	for name, fault := range map[string]func(cfg *Config, path string){
		"a bad sector": func(cfg *Config, path string) {
			f := &failingReads{name: path}
			f.on.Store(true)
			cfg.open = f.open
		},
		"a dead device": func(cfg *Config, _ string) {
			f := &failingReads{name: cfg.Dir}
			f.on.Store(true)
			cfg.open = f.open
		},
		"a file that cannot be opened": func(cfg *Config, path string) {
			info, err := os.Stat(path)
			must(t, err)
			f := new(unopenable)
			f.Store(&unopenableFile{inode(info), syscall.EIO})
			cfg.open = f.open
		},
	} {
		c, cfg := filled(t, 47, 1)
		n := mustOpen(t, cfg)
		path, _ := segmentOf(t, n, 0)
		c.checked(t, n, 1)
		mustClose(t, n)
		fault(&cfg, path)
		n = mustOpen(t, cfg)
		o := wire.CheckOrder{
			Check: name, Height: 1, Hash: c.statusAt(1).Hash, Unread: true, UnreadAll: true,
		}
		_, err := n.Check(t.Context(), o)
		must(t, err)
		<-n.check.job.ended
		status, err := n.Check(t.Context(), o)
		must(t, err)
		if status.DeviceReads != (name == "a bad sector") || status.Error == "" {
			t.Errorf("%s: %+v", name, status)
		}
		if u := status.Unread; name == "a bad sector" && (u == nil || !slices.Equal(u.Bad, []chain.Range{{To: 1}})) {
			t.Errorf("%s: %+v", name, u)
		}
		// Once its loss is confirmed, nothing is left to read. Its file's header is on the same sector.
		o.Check, o.Lost = "confirmed", []chain.Range{{To: 1}}
		_, err = n.Check(t.Context(), o)
		must(t, err)
		<-n.check.job.ended
		status, err = n.Check(t.Context(), o)
		must(t, err)
		if r := status.Report; name == "a bad sector" && (r == nil || !r.Complete || len(r.Bad) > 0) {
			t.Errorf("%s, confirmed: %+v, %+v", name, status, r)
		}
		mustClose(t, n)
	}
}

// TestCheckOfAnIndexOnABadSector checks that a check replaces an index that the device cannot read in full, as a start
// does. Otherwise every check would end early until a restart.
func TestCheckOfAnIndexOnABadSector(t *testing.T) {
	const height = 20
	c, cfg := filled(t, 48, height)
	var disk badSectors
	cfg.open = disk.open
	n := mustOpen(t, cfg)
	info, err := os.Stat(filepath.Join(cfg.Dir, "index"))
	must(t, err)
	disk.Store(&badSector{inode(info), indexHeader + 3*indexEntry, indexHeader + 4*indexEntry})
	c.clean(t, n, height)
	if len(quarantined(t, n)) != 1 {
		t.Error("the old index is not in quarantine/")
	}
	c.growTo(t, height+2)
	c.putAll(t, n)
	c.clean(t, n, height+2)
	mustClose(t, n)
	verified(t, cfg.Dir, c, height+2)
}

// TestCheckOfTilesThatCannotBeOpened checks that a check reads the blocks although a file of the tree's hashes cannot
// be opened. If only that file is concerned, it is kept in quarantine/ and written again. Otherwise the check counts as
// one that ended early, and leaves the hashes as they are.
func TestCheckOfTilesThatCannotBeOpened(t *testing.T) {
	const height, flipped = 60, 41
	c, filledCfg := filled(t, 49, height)
	source := c.source(t)
	for _, fault := range []error{syscall.EACCES, syscall.EIO, syscall.EMFILE, syscall.ENOMEM} {
		for _, level := range []string{"00", "04"} {
			t.Run(fmt.Sprintf("%v, %s", fault, level), func(t *testing.T) {
				var bad atomic.Uint64 // the inode of the file
				cfg := Config{AtRest: testKeys, Dir: copyDir(t, filledCfg.Dir), SegmentBytes: 2000}
				cfg.open = func(path string, flag int) (segment.File, error) {
					if flag&(os.O_RDWR|os.O_CREATE) == 0 {
						if info, err := os.Lstat(path); err == nil && inode(info) == bad.Load() {
							return nil, &os.PathError{Op: "open", Path: path, Err: fault}
						}
					}
					return segment.OpenFile(path, flag)
				}
				n := mustOpen(t, cfg)
				path := filepath.Join(cfg.Dir, "tiles", level)
				info, err := os.Stat(path)
				must(t, err)
				before, err := os.ReadFile(path)
				must(t, err)
				otherPath, other := segmentOf(t, n, flipped)
				flip(t, otherPath, other.End()-1)
				bad.Store(inode(info))
				o := wire.CheckOrder{Check: "1", Height: height, Hash: c.statusAt(height).Hash, Unread: true}
				_, err = n.Check(t.Context(), o)
				must(t, err)
				<-n.check.job.ended
				status, err := n.Check(t.Context(), o)
				must(t, err)
				r := status.Report
				if r == nil || len(r.Bad) != 1 || r.Bad[0].From != flipped || status.Blocks != height ||
					status.Unread != nil {
					t.Fatalf("%+v, report %+v", status, r)
				}
				kept := slices.ContainsFunc(slices.Collect(maps.Values(quarantined(t, n))), func(data []byte) bool {
					return bytes.Equal(data, before)
				})
				after, err := os.ReadFile(path)
				must(t, err)
				if !bytes.Equal(after, before) {
					t.Error("the file has other hashes")
				}
				if durable.NoResources(fault) {
					if r.Complete || r.Tiles > 0 || kept || !strings.Contains(status.Error, fault.Error()) {
						t.Errorf("%+v, report %+v, moved aside: %v", status, r, kept)
					}
				} else if !r.Complete || r.Tiles == 0 || !kept || status.Error != "" {
					t.Errorf("%+v, report %+v, moved aside: %v", status, r, kept)
				}
				bad.Store(0)
				c.repairAll(t, source, n, height, []chain.Range{{From: flipped, To: flipped + 1}})
			})
		}
	}
}

// TestRepairThatCannotCopy checks that a repair reports the blocks that it could not copy from the old file, and that
// the check before did not find.
func TestRepairThatCannotCopy(t *testing.T) {
	const height, bad = 60, 20
	c, filledCfg := filled(t, 45, height)
	var disk badSectors
	cfg := Config{AtRest: testKeys, Dir: copyDir(t, filledCfg.Dir), SegmentBytes: 2000, open: disk.open}
	n := mustOpen(t, cfg)
	path, _ := segmentOf(t, n, bad)
	other := segmentSpan(t, n, bad).From
	if other == bad {
		other++
	}
	info, err := os.Stat(path)
	must(t, err)
	before, err := os.ReadFile(path)
	must(t, err)
	_, p := segmentOf(t, n, other)
	disk.Store(&badSector{inode(info), p.End() - 1, p.End()})
	status := c.repair(t, c.source(t), n, height, chain.Range{From: bad, To: bad + 1})
	if want := (chain.Range{From: other, To: other + 1}); len(status.Lost) != 1 || status.Lost[0] != want {
		t.Errorf("lost: %v, want %v", status.Lost, want)
	}
	// The block may be good and its sector readable again, so the whole old file is kept.
	kept, err := os.ReadDir(filepath.Join(cfg.Dir, "quarantine"))
	if err != nil || !slices.ContainsFunc(kept, func(e os.DirEntry) bool {
		data, err := os.ReadFile(filepath.Join(cfg.Dir, "quarantine", e.Name()))
		return err == nil && bytes.Equal(data, before)
	}) {
		t.Errorf("the old file with a block that could not be copied is not in quarantine: %v, %v", kept, err)
	}
	c.repairAll(t, c.source(t), n, height, status.Lost)
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
			cfg := Config{AtRest: testKeys, Dir: copyDir(t, filledCfg.Dir), SegmentBytes: 2000}
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
			if got := n.Read([]wire.Place{{Block: 3}}, 0, nil)[0].Status; got != wire.ReadFailed {
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
			if _, err := n.Send(t.Context(), order); err != nil {
				t.Fatal(err)
			}
			<-n.send.job.ended
			if s, err := n.Send(t.Context(), order); err != nil || s.Running || (s.Error == "") != tiles || s.Faulty {
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
