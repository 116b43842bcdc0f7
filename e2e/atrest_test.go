package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/raftstore"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/wire"
)

// Keys of the nodes of TestAtRest.
const (
	firstAtRestKey  = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
	secondAtRestKey = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
)

// TestAtRest runs a cluster whose masters and storage nodes encrypt. Under load the key is replaced, masters are
// killed, and a storage node is killed, loses a segment and is repaired. No file of a node may have the key of a record
// in clear.
func TestAtRest(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	write := func(lines ...string) {
		t.Helper()
		err := os.WriteFile(keys+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o600)
		if err == nil {
			err = os.Rename(keys+".new", keys)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(firstAtRestKey)
	c := startWith(t, func(topology *devcluster.Topology) {
		smallSegments(topology)
		topology.AtRestKeys = keys
	})
	c.expectDamage = true
	o := newOracle()
	l := c.startLoad(o)
	l.more(3 * some)
	c.awaitSegments(3)
	entries := bulk("a key that must not be on a disk", 20)
	at, err := c.client(c.File().Masters...).AppendBatch(t.Context(), entries, "")
	if err != nil {
		t.Fatal(err)
	}
	o.ack(entries, at)
	checkNoText(t, c)
	c.kill("master-1")
	c.kill("master-2")
	c.launch("master-1")
	c.launch("master-2")
	l.more(some)
	write(secondAtRestKey, firstAtRestKey)
	second, err := atrest.Load(keys)
	if err != nil {
		t.Fatal(err)
	}
	c.kill("storage-1")
	segments, err := filepath.Glob(filepath.Join(roleOf(c.Topology(), "storage-1").Data, "segments", "*.seg"))
	if err != nil || len(segments) < 2 {
		t.Fatal(segments, err)
	}
	if err := os.Remove(segments[0]); err != nil {
		t.Fatal(err)
	}
	l.more(some)
	c.launch("storage-1")
	l.more(some)
	l.end()
	c.awaitSettled(3)
	for _, s := range c.File().Storages {
		c.await(s.Data+" to be under the second key", func() string {
			files, err := storagenode.CountAtRest(s.Data)
			if err != nil || files.Plain != 0 || len(files.Keys) != 1 || files.Keys[second.Current()] == 0 {
				return fmt.Sprintf("%+v, %v", files, err)
			}
			return ""
		})
	}
	masters := masterFolders(c)
	for _, data := range masters {
		c.await(data+" to be under the second key", func() string {
			files, err := raftstore.CountAtRest(data)
			if err != nil || files.Plain != 0 || len(files.Keys) != 1 || files.Keys[second.Current()] == 0 {
				return fmt.Sprintf("%+v, %v", files, err)
			}
			return ""
		})
	}
	// All masters start without the first key.
	write(secondAtRestKey)
	for _, name := range []string{"master-1", "master-2", "master-3"} {
		c.kill(name)
	}
	for _, name := range []string{"master-1", "master-2", "master-3"} {
		c.launch(name)
	}
	c.awaitSettled(3)
	c.checkServed(o)
	status := c.awaitStatus()
	c.await("the status to have the encryption of all masters", func() string {
		s, err := c.adminStatus()
		if err != nil {
			return err.Error()
		}
		for _, m := range s.Masters {
			if m.AtRest == nil || *m.AtRest != (wire.AtRest{Key: second.Current().String()}) {
				return fmt.Sprintf("master %s: %+v", m.ID, m.AtRest)
			}
		}
		return ""
	})
	c.stop()
	if second, err = atrest.Load(keys); err != nil {
		t.Fatal(err)
	}
	for _, s := range c.File().Storages {
		found, err := audit.Folder{Path: s.Data, AtRest: second}.Verify(t.Context(), nil)
		if err != nil || found.Height < status.Head.Height || found.Torn != 0 {
			t.Errorf("verify %s: %+v, %v; the head was %+v", s.Data, found, err, status.Head)
		}
	}
	checkNoText(t, c)
}

// masterFolders returns the data folders of the masters.
func masterFolders(c *cluster) (dirs []string) {
	for _, r := range c.Topology().Roles() {
		if r.Kind == devcluster.KindMaster {
			dirs = append(dirs, r.Data)
		}
	}
	return dirs
}

// checkNoText checks that no file of a node has the keys of the test's records in clear.
func checkNoText(t *testing.T, c *cluster) {
	t.Helper()
	dirs := masterFolders(c)
	for _, s := range c.File().Storages {
		dirs = append(dirs, s.Data)
	}
	files := 0
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it was removed meanwhile
			}
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			files++
			if bytes.Contains(data, []byte("a key that must not be on a disk")) {
				t.Errorf("%s has the key of a record in clear", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if files < 10*len(dirs)/2 {
		t.Errorf("only %d files in %v", files, dirs)
	}
}
