package raftstore

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

// syncedLogEnv names the folder in which the test below runs as the traced process.
const syncedLogEnv = "RAFTSTORE_SYNCED_LOG"

// TestStartSyncsTheLog checks with strace that raft.db is synced before the start continues, and before an append
// returns. So after a kill nothing that a start reports is only in the page cache: fdatasync(2) of bbolt's first
// transaction writes what the last process wrote and did not sync.
func TestStartSyncsTheLog(t *testing.T) {
	if dir := os.Getenv(syncedLogEnv); dir != "" {
		useLog(t, dir)
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skipf("there is no strace to see system calls: %v", err)
	}
	dir := t.TempDir()
	for range 2 { // a new log, and one that exists
		calls := filepath.Join(t.TempDir(), "calls")
		cmd := exec.Command(strace, "-f", "-qq", "-y", "-o", calls, "-e", "trace=openat,pwrite64,fdatasync",
			os.Args[0], "-test.run=^TestStartSyncsTheLog$")
		cmd.Env = append(os.Environ(), syncedLogEnv+"="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		data, err := os.ReadFile(calls)
		if err != nil {
			t.Fatal(err)
		}
		synced := false
		var marks []string
		for line := range strings.Lines(string(data)) {
			ofLog := strings.Contains(line, "raft.db>")
			switch {
			case strings.Contains(line, "fdatasync(") && ofLog && strings.Contains(line, "= 0"),
				strings.Contains(line, "fdatasync resumed") && strings.Contains(line, "= 0"):
				synced = true
			case strings.Contains(line, "pwrite64(") && ofLog:
				synced = false
			case strings.Contains(line, ".done\"") && strings.Contains(line, "O_CREAT"):
				marks = append(marks, line)
				if !synced {
					t.Errorf("raft.db is not synced before %s", line)
				}
				synced = false // until it is synced again
			}
		}
		if len(marks) != 3 {
			t.Errorf("%d steps in\n%s", len(marks), data)
		}
	}
}

// useLog opens the log, appends to it twice, and leaves a file after each of these steps.
func useLog(t *testing.T, dir string) {
	log, err := raftconfig.OpenLog(filepath.Join(dir, "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	last, err := log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	steps := []func() error{
		func() error { return nil },
		func() error { return log.StoreLogs([]*raft.Log{{Index: last + 1, Term: 1}}) },
		func() error { return log.SetUint64([]byte(keyTerm), last+2) },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, string('a'+rune(i))+".done"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// It is not closed: the process ends as if it was killed.
}
