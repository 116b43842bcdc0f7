package raftceiling

import (
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	applied, err := Run(t.Context(), t.TempDir(), 256, 100, 4, 500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if applied == 0 || applied%100 != 0 {
		t.Fatalf("%d records were applied", applied)
	}
	t.Logf("%d records/s", 2*applied)
}

func TestRunRejectsAnEmptyBatch(t *testing.T) {
	if _, err := Run(t.Context(), t.TempDir(), 256, 0, 1, time.Second); err == nil {
		t.Fatal("no records a batch, and no error")
	}
}
