package raftstore

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
)

// TestFailedSyncIsRemembered checks that a failed sync of a master's folder is in the mark when the store fails. The
// next process would read from the page cache what the disk does not have, and count it as stored.
func TestFailedSyncIsRemembered(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fail func(*Store)
		want bool
	}{
		"log": {func(s *Store) { s.fail.report(diskError("append to raft.db", syscall.EIO)) }, true},
		"folder": {func(s *Store) {
			s.fail.report(diskError("write", &os.PathError{Op: "sync", Err: syscall.EIO}))
		}, true},
		"starts": {func(s *Store) { s.fail.report(startsError(&os.PathError{Op: "sync", Err: syscall.EIO})) }, true},
		"second failure": {func(s *Store) {
			s.fail.report(diskError("write", errors.New("something else")))
			s.fail.report(diskError("append to raft.db", syscall.EIO))
		}, true},
		"full disk": {func(s *Store) {
			s.fail.report(diskError("append to raft.db", &os.PathError{Op: "write", Err: syscall.ENOSPC}))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, t.TempDir())
			mark, err := durable.OpenSyncMark(cfg.Dir, false)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Mark = mark
			s, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			test.fail(s)
			_ = s.Close() // it has failed
			if err := mark.Close(); err != nil {
				t.Fatal(err)
			}
			mark, err = durable.OpenSyncMark(cfg.Dir, false)
			if errors.Is(err, durable.ErrSyncFailed) != test.want {
				t.Fatal(err)
			}
			if err := mark.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
