package raftstore

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/masterfsm"
)

// beforeSegments is the newest commit whose program knows protocol level 3 and has the log in raft.db alone.
const beforeSegments = "7dce58cb60f8792526e9dabd1e2d0ac349559e5e"

// olderProgram builds the program of that commit.
func olderProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	sources, program := filepath.Join(dir, "sources.tar"), filepath.Join(dir, "chainstore")
	archive := exec.Command("git", "archive", "--output", sources, beforeSegments)
	archive.Dir = ".."
	if text, err := archive.CombinedOutput(); err != nil {
		t.Skipf("NO HISTORY: no older program starts on the folder of a move: git archive %s: %v: %s "+
			"(git fetch --unshallow)", beforeSegments, err, text)
	}
	for _, step := range [][]string{{"tar", "-xf", sources},
		{"go", "build", "-buildvcs=false", "-o", program, "./cmd/chainstore"}} {
		cmd := exec.Command(step[0], step[1:]...)
		cmd.Dir = dir
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", step, err, text)
		}
	}
	return program
}

// runOlder runs a program on a master's folder until it is ready, and stops it. refused is what it said if it ended by
// itself.
func runOlder(t *testing.T, program string, cfg Config) (refused string) {
	t.Helper()
	address := ownAddress(t)
	ctx, cancel := context.WithCancel(patience(t))
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "master", "--data", cfg.Dir, "--http", address, "--raft", cfg.Bind,
		"--peers", "http://"+address)
	cmd.Env = append(os.Environ(), "CHAINSTORE_CLUSTER_TOKEN="+testToken,
		"CHAINSTORE_ADMIN_TOKEN=the admin token of the tests")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("it ended without an error: %s", out.String())
			}
			return out.String()
		case <-time.After(20 * time.Millisecond):
		}
		answer, err := http.Get("http://" + address + "/readyz")
		if err != nil {
			continue
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			continue
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("the end of the older program: %v: %s", err, out.String())
		}
		return ""
	}
}

// TestOlderProgramDuringTheMove ends the move of a log after each of its steps, in both directions, and starts the real
// program of an earlier commit on the folder, and then this one. The older one has the whole log, and a later term, or
// refuses the folder and changes nothing of it. This one has everything after it.
func TestOlderProgramDuringTheMove(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds an earlier program")
	}
	program := olderProgram(t)
	n := databaseNode(t)
	raiseLevel(t, masterfsm.LevelSegments, n)
	for ctx := patience(t); ; time.Sleep(5 * time.Millisecond) {
		n.mu.Lock()
		level := n.identity.Level
		n.mu.Unlock()
		if level == masterfsm.LevelSegments {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("the level is not recorded")
		}
	}
	n.stop()
	moved := n.cfg
	moved.Dir = filepath.Join(t.TempDir(), "moved")
	copyFolder(t, n.cfg.Dir, moved.Dir)
	f := openFolder(t, moved.Dir)
	for _, step := range f.moveSteps() {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	f.kill(t)
	for _, direction := range []struct {
		name  string
		from  string
		steps func(*dataFolder) []func() error
		open  func(t *testing.T, dir string) *dataFolder
	}{
		{"there", n.cfg.Dir, (*dataFolder).moveSteps, openFolder},
		{"back", moved.Dir, (*dataFolder).backSteps, lockOnly},
	} {
		for done := range len(direction.steps(&dataFolder{})) + 1 {
			t.Run(fmt.Sprint(direction.name, done), func(t *testing.T) {
				cfg := n.cfg
				cfg.Dir = filepath.Join(t.TempDir(), "m")
				copyFolder(t, direction.from, cfg.Dir)
				f := direction.open(t, cfg.Dir)
				for _, step := range direction.steps(f)[:done] {
					if err := f.fail.guard(step); err != nil {
						t.Fatal(err)
					}
				}
				f.kill(t)
				id, err := loadIdentity(cfg.Dir)
				if err != nil {
					t.Fatal(err)
				}
				want := logContent(t, cfg.Dir)
				refused := runOlder(t, program, cfg)
				if id.Version == logInSegments {
					if !strings.Contains(refused, "newer version") || logContent(t, cfg.Dir) != want {
						t.Errorf("on a folder of version 2: %s", refused)
					}
				} else if refused != "" {
					t.Errorf("it refused the folder: %s", refused)
				} else {
					checkContinued(t, cfg.Dir, want)
				}
				startsWhole(t, cfg, logInSegments)
			})
		}
	}
}

// lockOnly locks a folder and opens none of its files.
func lockOnly(t *testing.T, dir string) *dataFolder {
	t.Helper()
	f, err := lockFolder(dir, nil, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// checkContinued checks that a log has all entries of an earlier content, and a later term with a vote in it.
func checkContinued(t *testing.T, dir, before string) {
	t.Helper()
	content := logContent(t, dir)
	var termBefore, term uint64
	for line := range strings.Lines(before) {
		if _, err := fmt.Sscanf(line, keyTerm+" %d", &termBefore); err == nil {
			break
		}
		if strings.Count(line, " ") == 4 && !strings.Contains(content, "\n"+line) {
			t.Errorf("entry %q is lost", line)
		}
	}
	_, after, _ := strings.Cut(content, keyTerm+" ")
	_, err := fmt.Sscanf(after, "%d", &term)
	if err != nil || term <= termBefore || !strings.Contains(content,
		fmt.Sprintf("%s %d <nil>", keyVoteTerm, term)) {
		t.Errorf("term %d became %d, %v:\n%s", termBefore, term, err, content)
	}
}
