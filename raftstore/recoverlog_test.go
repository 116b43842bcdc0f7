package raftstore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// segmentWith returns the path of the segment that has a text, and where.
func segmentWith(t *testing.T, dir, text string) (path string, at int64) {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(logPath(dir), "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range list {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(data, []byte(text)); at >= 0 {
			return path, int64(at)
		}
	}
	t.Fatalf("no segment has %q", text)
	return "", 0
}

// flipByte alters a byte of a file.
func flipByte(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	b[0] ^= 0xFF
	_, err2 := f.WriteAt(b[:], at)
	if err := errors.Join(err, err2, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestRecoveryDamagedLog recovers a master whose log is damaged in an entry that its snapshot has. The segment is
// reported and moved aside, and no entry is lost. A recovery that was killed is repeated. With damage behind the
// snapshot the recovery is refused and changes nothing.
func TestRecoveryDamagedLog(t *testing.T) {
	t.Parallel()
	n, last, _ := twoSnapshots(t, 1000)
	whole := filepath.Join(t.TempDir(), "whole")
	copyFolder(t, n.cfg.Dir, whole)
	path, at := segmentWith(t, n.cfg.Dir, "p3")
	flipByte(t, path, at)
	if s, err := Open(n.cfg); !errors.Is(err, ErrDisk) || !strings.Contains(err.Error(), path) {
		t.Fatalf("%v, %v", s, err)
	}
	for _, killed := range []bool{true, false} {
		r := openRecovery(t, n.cfg.Dir)
		list := r.Damaged()
		if _, index := r.Last(); index < last || len(list) != 1 || list[0].Path != path || !list[0].Segment ||
			list[0].Err == nil {
			t.Fatalf("the last entry is %d, not %d, damaged are %+v", index, last, list)
		}
		if killed {
			_, err := r.writeSnapshot(n.cfg.Bind)
			if err := errors.Join(err, r.begin()); err != nil {
				t.Fatal(err)
			}
			closeRecovery(t, r)
			continue
		}
		if err := r.Commit("group-1", 2, n.cfg.Bind); err != nil {
			t.Fatal(err)
		}
		closeRecovery(t, r)
		if got, err := os.ReadFile(list[0].Aside); err != nil || len(got) == 0 {
			t.Errorf("%d bytes are aside, %v", len(got), err)
		}
	}
	back := openNode(t, n.cfg)
	create(t, "after", back)
	for _, name := range []string{"p0", "p3", "q0", "q19"} {
		if !back.has(name) {
			t.Errorf("%s is lost", name)
		}
	}

	copyFolder(t, whole, n.cfg.Dir+"-2")
	cfg := n.cfg
	cfg.Dir += "-2"
	path, at = segmentWith(t, cfg.Dir, "q19")
	flipByte(t, path, at)
	before := folderContent(t, cfg.Dir)
	r, err := OpenRecovery(cfg.Dir, false, nil, nil)
	if err == nil {
		_ = r.Close()
	}
	if !errors.Is(err, ErrDisk) || !strings.Contains(err.Error(), path) {
		t.Errorf("damage behind the snapshot: %v", err)
	}
	for name, content := range folderContent(t, cfg.Dir) {
		if strings.HasPrefix(name, logPath(cfg.Dir)) && before[name] != content {
			t.Errorf("%s has changed", name)
		}
	}
}
