package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/storagenode/audit"
)

// Keys of the storage nodes of TestAtRest.
const (
	firstAtRestKey  = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
	secondAtRestKey = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
)

// TestAtRest runs a cluster whose storage nodes encrypt. Under load the key is replaced, and a node is killed, loses a
// segment and is repaired. No file of a storage node may have the key of a record in clear.
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
	c.checkServed(o)
	status := c.awaitStatus()
	c.stop()
	write(secondAtRestKey)
	if second, err = atrest.Load(keys); err != nil {
		t.Fatal(err)
	}
	for _, s := range c.File().Storages {
		found, err := audit.Folder{Path: s.Data, AtRest: second}.Verify(t.Context(), nil)
		if err != nil || found.Height < status.Head.Height || found.Torn != 0 {
			t.Errorf("verify %s: %+v, %v; the head was %+v", s.Data, found, err, status.Head)
		}
		err = filepath.WalkDir(s.Data, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if bytes.Contains(data, []byte("a key that must not be on a disk")) {
				t.Errorf("%s has the key of a record in clear", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
