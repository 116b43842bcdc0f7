package storagenode

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestKilledThenPowerCut ends the process of a node, starts it again, and then cuts the power. Whatever the second
// start reported must still be there, even if a sync had failed before: after that the page cache has bytes that the
// device does not have, and no sync writes them.
func TestKilledThenPowerCut(t *testing.T) {
	c := newTestChain(1)
	c.growTo(t, 12)
	// The syncs that fail; none for "", then the process is only killed.
	fails := []string{"", ".seg", "/index", "/tiles/", "sync of the file", "sync of the folder"}
	for _, segmentBytes := range []int64{1 << 20, 1200} { // one segment, and several
		for _, height := range []int{2, 3, 4, 5} {
			for _, sick := range fails {
				name := fmt.Sprintf("segments of %d, block %d, fails %q", segmentBytes, height, sick)
				t.Run(name, func(t *testing.T) { killedThenPowerCut(t, c, segmentBytes, height, sick) })
			}
		}
	}
}

// killedThenPowerCut lets the syncs of one kind of file fail while a block is put, and another into the inbox.
func killedThenPowerCut(t *testing.T, c *testChain, segmentBytes int64, height int, sick string) {
	disk := newFaultyDisk(1<<30, notDone)
	cfg := Config{
		AtRest: testKeys, Dir: memDir(t), SegmentBytes: segmentBytes, open: disk.open, writeFile: disk.writeFile,
	}
	n := mustOpen(t, cfg)
	for number := range height {
		if _, err := n.Put(t.Context(), uint64(number), c.blocks[number].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	disk.sick = sick
	_, inboxErr := n.PutInbox(t.Context(), uint64(height)+3, c.blocks[height+3].Bytes())
	if inboxErr != nil && !errors.Is(inboxErr, errDisk) {
		t.Fatal(inboxErr)
	}
	if inboxErr == nil {
		// The block is written. Its sync fails, or the process is killed before it.
		n.mu.Lock()
		err := n.add(&c.blocks[height])
		if err == nil && sick != "" {
			err = n.sync()
		}
		n.mu.Unlock()
		if err != nil && !errors.Is(err, errDisk) {
			t.Fatal(err)
		}
	}
	crash(t, n)
	if sick != "" && disk.hit == "" {
		t.Fatal("no sync failed")
	}

	disk.heal()
	n = mustOpen(t, cfg) // of the same disk, which knows what is synced
	told := n.Status()
	crash(t, n)
	disk.powerCut(t)
	n = mustOpen(t, cfg)
	now := n.Status()
	if now.Height < told.Height || now.Inbox != told.Inbox {
		t.Fatalf("it reported height %d and the inbox %v, and has %d and %v after a power cut",
			told.Height, told.Inbox, now.Height, now.Inbox)
	}
	for number := range now.Height {
		c.checkBlock(t, n, number, false)
	}
	c.putAll(t, n)
	c.check(t, n, len(c.blocks))
	mustClose(t, n)
	verified(t, cfg.Dir, c, len(c.blocks))
}

// TestSmallFilesAreWrittenAgain checks that a start after an unclean stop writes the small files again.
func TestSmallFilesAreWrittenAgain(t *testing.T) {
	c, cfg := filled(t, 1, 3)
	disk := newFaultyDisk(1<<30, notDone)
	cfg.open, cfg.writeFile = disk.open, disk.writeFile
	n := mustOpen(t, cfg)
	disk.sick = "sync of the folder"
	files := map[string][]byte{}
	for _, path := range []string{n.dir.Lost(), n.dir.Ticket()} {
		files[path] = []byte("content of " + path)
		if err := n.cfg.writeFile(path, files[path], 0o600); !errors.Is(err, errDisk) {
			t.Fatal(err)
		}
	}
	crash(t, n)
	disk.heal()
	n = mustOpen(t, cfg)
	c.check(t, n, 3)
	crash(t, n)
	disk.powerCut(t)
	for path, data := range files {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %q, %v", filepath.Base(path), got, err)
		}
	}
}
