package storagenode

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// misplacedKinds are the kinds of objects that may be at the path of a file of the node.
var misplacedKinds = map[string]func(t *testing.T, path string){
	"folder": func(t *testing.T, path string) {
		must(t, os.MkdirAll(filepath.Join(path, "x"), 0o700)) // not empty, so os.Remove fails
	},
	"link to itself": func(t *testing.T, path string) { must(t, os.Symlink(path, path)) },
	"dangling link":  func(t *testing.T, path string) { must(t, os.Symlink(path+"-gone", path)) },
	"link to a file elsewhere": func(t *testing.T, path string) {
		other := filepath.Join(t.TempDir(), "other")
		must(t, os.WriteFile(other, []byte("of somebody else"), 0o600))
		t.Cleanup(func() {
			if data, err := os.ReadFile(other); err != nil || string(data) != "of somebody else" {
				t.Errorf("the file behind the link was changed: %q, %v", data, err)
			}
		})
		must(t, os.Symlink(other, path))
	},
	"fifo": func(t *testing.T, path string) { must(t, syscall.Mkfifo(path, 0o600)) },
	"socket": func(t *testing.T, path string) {
		short := filepath.Join(memDir(t), "s") // the path of a socket is limited to 108 bytes
		l, err := net.Listen("unix", short)
		must(t, err)
		t.Cleanup(func() { _ = l.Close() })
		must(t, os.Rename(short, path))
	},
}

// TestMisplacedFiles puts something else in place of a file that is derived from the blocks, and flips a bit of a
// payload. The check must move the object aside and report it, and must find the flipped bit.
func TestMisplacedFiles(t *testing.T) {
	const height, damaged = 60, 20
	c, filledCfg := filled(t, 31, height)
	source := c.source(t)
	n := mustOpen(t, filledCfg)
	n.indexer.await(t.Context(), c.statusAt(height).Size)
	mustClose(t, n)
	runs, err := filepath.Glob(filepath.Join(filledCfg.Dir, "records", "*.run*"))
	if err != nil || len(runs) == 0 {
		t.Fatalf("%q, %v", runs, err)
	}
	run := "records/" + filepath.Base(runs[0])
	block := "inbox/00000000000000000070.block"
	for _, name := range []string{"index", "tiles/00", "tiles/04", "tiles/synced", "lost", "repair", run, block} {
		for kind, put := range misplacedKinds {
			t.Run(name+" is a "+kind, func(t *testing.T) {
				c.misplacedWhileRunning(t, source, filledCfg.Dir, height, damaged, name, put)
			})
		}
	}
}

// TestMisplacedFolders does the same for folders of the node.
func TestMisplacedFolders(t *testing.T) {
	const height, damaged = 60, 20
	c, filledCfg := filled(t, 32, height)
	source := c.source(t)
	for _, name := range []string{"tiles", "records", "inbox", "quarantine"} {
		for _, kind := range []string{"file", "fifo", "link to itself", "dangling link", "link to a file elsewhere"} {
			put := misplacedKinds[kind]
			if kind == "file" {
				put = noFolder
			}
			t.Run(name+" is a "+kind, func(t *testing.T) {
				c.misplacedWhileRunning(t, source, filledCfg.Dir, height, damaged, name, put)
			})
		}
	}
}

func (c *testChain) misplacedWhileRunning(
	t *testing.T, source *Node, from string, height, damaged int, name string, put func(*testing.T, string),
) {
	t.Helper()
	n, _ := damageCopy(t, from, true, func(n *Node) {
		path, p := segmentOf(t, n, uint64(damaged))
		// The indexer must not write while its folder is replaced.
		n.indexer.await(t.Context(), c.blocks[height-1].Header.First+1)
		misplace(t, filepath.Join(n.cfg.Dir, name), put)
		flip(t, path, p.End()-1)
	})
	r := c.checked(t, n, height)
	if len(r.Bad) != 1 || r.Bad[0] != (chain.Range{From: uint64(damaged), To: uint64(damaged) + 1}) ||
		r.Unchecked != uint64(height) {
		t.Fatalf("report %+v", r)
	}
	moved := func(f wire.Finding) bool { return f.DetailCoded.Code == wire.CodeMovedAside && aboutPath(f, name) }
	flipped := func(f wire.Finding) bool { return f.What == chain.WrongPayload }
	if !slices.ContainsFunc(r.Findings, moved) || !slices.ContainsFunc(r.Findings, flipped) {
		t.Errorf("findings %+v", r.Findings)
	}
	kept, err := filepath.Glob(filepath.Join(n.dir.Quarantine(), filepath.Base(name)+".*"))
	if err != nil || len(kept) != 1 {
		t.Errorf("in quarantine %q, %v", kept, err)
	}
	c.repairAll(t, source, n, height, r.Bad)
}

// aboutPath reports whether a finding is about what was at a path of the folder.
func aboutPath(f wire.Finding, path string) bool {
	return f.What == chain.WrongFile && f.DetailCoded.Args["path"] == path
}

// TestMisplacedSegment puts something else in place of a segment. Its blocks must be reported as missing, and received
// from another node.
func TestMisplacedSegment(t *testing.T) {
	const height, damaged = 60, 20
	c, filledCfg := filled(t, 33, height)
	source := c.source(t)
	for _, running := range []bool{true, false} {
		for kind, put := range misplacedKinds {
			if kind == "link to a file elsewhere" {
				continue // a segment may be a link to another disk: its content is checked
			}
			name := kind + ", down"
			if running {
				name = kind + ", running"
			}
			t.Run(name, func(t *testing.T) {
				var seg uint64
				n, _ := damageCopy(t, filledCfg.Dir, running, func(n *Node) {
					_, seg, _ = n.index.Get(damaged)
					misplace(t, n.segmentPath(seg), put)
					if _, err := offline(n.cfg.Dir).Verify(context.Background(), nil); err == nil {
						t.Error("the offline verifier finds nothing")
					}
				})
				want := segmentSpan(t, n, seg)
				r := c.checked(t, n, height)
				if len(r.Bad) != 1 || r.Bad[0] != want {
					t.Fatalf("report %+v, want %+v", r, want)
				}
				if r.Findings[0].What != "file" || r.Findings[0].Block != seg {
					t.Errorf("findings %+v", r.Findings)
				}
				c.repairAll(t, source, n, height, r.Bad)
			})
		}
	}
}

// TestMisplacedAtTheStart puts something else in place of files and folders while the node is down. The node must
// start, move them aside and request a check, which reports them.
func TestMisplacedAtTheStart(t *testing.T) {
	const height = 60
	c, filledCfg := filled(t, 34, height)
	folders := []string{"tiles", "records", "inbox", "quarantine"}
	for _, name := range append([]string{"index", "tiles/00", "tiles/synced", "lost", "repair", "running"},
		folders...) {
		for kind, put := range misplacedKinds {
			if kind == "folder" && slices.Contains(folders, name) {
				kind, put = "file", noFolder
			}
			t.Run(name+" is a "+kind, func(t *testing.T) {
				cfg := Config{AtRest: testKeys, Dir: copyDir(t, filledCfg.Dir), SegmentBytes: 2000}
				misplace(t, filepath.Join(cfg.Dir, name), put)
				found, err := offline(cfg.Dir).Verify(context.Background(), nil)
				if err == nil || found.Height != height || len(found.Findings) != 1 ||
					found.Findings[0].DetailCoded.Code != wire.CodeMisplaced || !aboutPath(found.Findings[0], name) {
					t.Errorf("the offline verifier says %+v, %v", found, err)
				}
				n := mustOpen(t, cfg)
				if !n.Unclean() {
					t.Error("it asks for no check")
				}
				c.check(t, n, height)
				r := c.checked(t, n, height)
				if len(r.Bad) > 0 || len(r.Findings) != 1 || r.Findings[0].What != "file" ||
					!aboutPath(r.Findings[0], name) {
					t.Fatalf("report %+v", r)
				}
				c.clean(t, n, height)
				mustClose(t, n)
				verified(t, cfg.Dir, c, height)
			})
		}
	}
}

// TestSegmentsAreAFile checks that all blocks are missing without the folder of the segments, and are received from
// another node.
func TestSegmentsAreAFile(t *testing.T) {
	const height = 30
	c, filledCfg := filled(t, 38, height)
	source := c.source(t)
	for _, running := range []bool{true, false} {
		for _, put := range []func(*testing.T, string){noFolder, misplacedKinds["fifo"]} {
			n, _ := damageCopy(t, filledCfg.Dir, running, func(n *Node) { misplace(t, n.dir.Segments(), put) })
			r := c.checked(t, n, height)
			if want := (chain.Range{To: height}); len(r.Bad) != 1 || r.Bad[0] != want ||
				!aboutPath(r.Findings[0], "segments") {
				t.Fatalf("running %v: report %+v", running, r)
			}
			c.repairAll(t, source, n, height, r.Bad)
		}
	}
}

// TestSegmentsAreALinkToNowhere checks a broken link in place of the folder of segments. Its disk may be disconnected,
// so nothing may be moved, and no block may count as missing.
func TestSegmentsAreALinkToNowhere(t *testing.T) {
	const height = 20
	c, cfg := filled(t, 35, height)
	elsewhere := filepath.Join(memDir(t), "segments")
	must(t, os.Rename(filepath.Join(cfg.Dir, "segments"), elsewhere))
	must(t, os.Symlink(elsewhere, filepath.Join(cfg.Dir, "segments")))
	n := mustOpen(t, cfg)
	c.clean(t, n, height)
	must(t, os.Rename(elsewhere, elsewhere+"-away"))
	status := c.ended(t, n, height)
	if status.Report != nil || !strings.Contains(status.Error, "segments") {
		t.Errorf("%+v", status)
	}
	mustClose(t, n)
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "segments") {
		t.Errorf("a start without the disk: %v", err)
	}
	must(t, os.Rename(elsewhere+"-away", elsewhere))
	n = mustOpen(t, cfg)
	c.clean(t, n, height)
	c.check(t, n, height)
}

// failing fails to open segments for reading while it is on.
type failing struct{ on atomic.Bool }

func (f *failing) open(path string, flag int) (segment.File, error) {
	if f.on.Load() && flag == os.O_RDONLY && strings.HasSuffix(path, ".seg") {
		return nil, &os.PathError{Op: "open", Path: path, Err: syscall.EMFILE}
	}
	return segment.OpenFile(path, flag)
}

// TestCheckEndsEarly checks that a check that cannot open a file reports the reason, and that leaders of all versions
// see that it did not succeed.
func TestCheckEndsEarly(t *testing.T) {
	const height = 30
	c, cfg := filled(t, 36, height)
	var f failing
	cfg.open = f.open
	n := mustOpen(t, cfg)
	f.on.Store(true)
	status := c.ended(t, n, height)
	if status.Report != nil {
		t.Fatalf("an older leader takes this for an end: %+v", status.Report)
	}
	if !strings.Contains(status.Error, "too many open files") || status.Blocks != 0 {
		t.Errorf("%+v", status)
	}
	// An older leader sees neither a report nor an error, and polls with the same name. The node tries again after a
	// pause.
	o := wire.CheckOrder{Check: n.check.order.Check, Height: height, Hash: c.statusAt(height).Hash}
	if again, err := n.Check(t.Context(), o); err != nil || again.Error == "" {
		t.Errorf("at once: %+v, %v", again, err)
	}
	f.on.Store(false)
	n.cfg.checkAgain = -1
	if again, err := n.Check(t.Context(), o); err != nil || again.Error != "" {
		t.Errorf("after the pause: %+v, %v", again, err)
	}
	<-n.check.job.ended
	if again, err := n.Check(t.Context(), o); err != nil || again.Error != "" || again.Report == nil ||
		again.Report.Unchecked != height {
		t.Errorf("the second try: %+v, %v", again, err)
	}
}

// TestCheckEndsEarlyBehindDamage checks that a check that ends early reports its findings, and the first block that it
// did not reach.
func TestCheckEndsEarlyBehindDamage(t *testing.T) {
	const height, damaged = 60, 3
	c, cfg := filled(t, 37, height)
	var late atomic.Bool
	cfg.open = func(path string, flag int) (segment.File, error) {
		if late.Load() && flag == os.O_RDONLY && !strings.HasSuffix(path, segment.Name(0)) {
			return nil, &os.PathError{Op: "open", Path: path, Err: syscall.EIO}
		}
		return segment.OpenFile(path, flag)
	}
	n := mustOpen(t, cfg)
	path, p := segmentOf(t, n, damaged)
	flip(t, path, p.End()-1)
	late.Store(true)
	status := c.ended(t, n, height)
	r := status.Report
	if status.Error == "" || r == nil || len(r.Bad) != 1 || r.Bad[0].From != damaged || r.Unchecked <= damaged ||
		r.Unchecked >= height {
		t.Errorf("%+v, report %+v", status, r)
	}
}
