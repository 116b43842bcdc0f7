package raftceiling

import (
	"errors"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	for _, log := range []LogStore{Database, WAL, Segments} {
		var calls []string
		c := Config{
			Dir: t.TempDir(), Log: log, EntryBytes: 256, Batch: 100, Clients: 4, Duration: 500 * time.Millisecond,
			Begin: func() error { calls = append(calls, "begin"); return nil },
			End:   func() error { calls = append(calls, "end"); return nil },
		}
		applied, err := Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if applied == 0 || applied%100 != 0 {
			t.Fatalf("log %d: %d records were applied", log, applied)
		}
		if len(calls) != 2 || calls[0] != "begin" || calls[1] != "end" {
			t.Errorf("log %d: calls %v", log, calls)
		}
	}
}

func TestRunRejectsAnEmptyBatch(t *testing.T) {
	c := Config{Dir: t.TempDir(), EntryBytes: 256, Clients: 1, Duration: time.Second}
	if _, err := Run(t.Context(), c); err == nil {
		t.Fatal("no records a batch, and no error")
	}
}

func TestRunEndsWithTheErrorOfBegin(t *testing.T) {
	failed := errors.New("failed")
	_, err := Run(t.Context(), Config{
		Dir: t.TempDir(), EntryBytes: 1, Batch: 1, Clients: 1, Duration: time.Second,
		Begin: func() error { return failed },
	})
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
}
