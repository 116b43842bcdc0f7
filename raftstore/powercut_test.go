package raftstore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/e2e/powercut"
	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/atrest/atresttest"
)

// powerCutEnv names what the test below does as the traced process, and the folder.
const powerCutEnv = "RAFTSTORE_POWER_CUT"

// changingCall matches the system calls after which the power is cut, and syncCall those that may fail instead.
var (
	changingCall = regexp.MustCompile(`\b(write|pwrite64|renameat2?|unlinkat|mkdirat|fsync|fdatasync|ftruncate)\(`)
	syncCall     = regexp.MustCompile(`\bf(?:data)?sync\(.*= 0$`)
)

// TestPowerCutDuringTheMove moves a log in a process of its own, in both directions, encrypts and decrypts a folder,
// and installs a snapshot of the leader. It cuts the power after each system call that changes a file, and at each
// sync, which fails: only what was synced is left, or all of it, or any part of the rest. Each start finds the whole
// log and the votes.
func TestPowerCutDuringTheMove(t *testing.T) {
	if what, dir, ok := strings.Cut(os.Getenv(powerCutEnv), ":"); ok {
		tracedChange(t, what, dir)
		return
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skipf("NO STRACE: no power cut during a move of the log: %v", err)
	}
	n := databaseNode(t)
	raised(t, n)
	n.stop()
	shrinkDatabase(t, n.cfg.Dir)
	moved := memDir(t)
	copyFolder(t, n.cfg.Dir, moved)
	tracedChange(t, "move", moved)
	shrinkDatabase(t, moved)
	encrypted := memDir(t)
	copyFolder(t, moved, encrypted)
	tracedChange(t, "encrypt", encrypted)
	follower := newFollower(t, 31, unchanged)
	tracedChange(t, "encrypt", follower)
	for what, from := range map[string]string{
		"move": n.cfg.Dir, "back": moved, "encrypt": moved, "decrypt": encrypted,
		"install": newFollower(t, 31, unchanged), "install over": newFollower(t, 31, 18), "install encrypted": follower,
	} {
		t.Run(what, func(t *testing.T) { cutEverywhere(t, what, from) })
	}
}

// shrinkDatabase cuts what was never written from raft.db.
func shrinkDatabase(t *testing.T, dir string) {
	t.Helper()
	data, err := os.ReadFile(databasePath(dir))
	if err == nil {
		err = os.WriteFile(databasePath(dir), usedPages(data), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// keysOf returns the at-rest keys of a change, nil for none.
func keysOf(t *testing.T, what string) *atrest.Ring {
	t.Helper()
	if strings.Contains(what, "crypt") {
		return atresttest.Ring(t, 1)
	}
	return nil
}

// tracedChange does one of the changes.
func tracedChange(t *testing.T, what, dir string) {
	t.Helper()
	keys := keysOf(t, what)
	switch what {
	case "encrypt":
		f := openFolderWith(t, dir, keys)
		if err := f.fail.guard(f.encrypt); err != nil {
			t.Fatal(err)
		}
		f.kill(t)
	case "decrypt":
		if err := RewriteAtRest(dir, nil, keys, nil); err != nil {
			t.Fatal(err)
		}
	case "move", "back":
		f := lockOnly(t, dir)
		steps := f.backSteps()
		if what == "move" {
			if err := f.open(); err != nil {
				t.Fatal(err)
			}
			steps = f.moveSteps()
		}
		for _, step := range steps {
			if err := f.fail.guard(step); err != nil {
				t.Fatal(err)
			}
		}
		f.kill(t)
	default:
		f := startFollowerWith(t, dir, keys)
		if err := f.install(); err != nil {
			t.Fatal(err)
		}
		f.end()
	}
}

// cutEverywhere runs a change on a copy of a folder, and cuts the power everywhere in it.
func cutEverywhere(t *testing.T, what, from string) {
	whole := memDir(t)
	copyFolder(t, from, whole)
	shrinkDatabase(t, whole)
	dir, trace := memDir(t), filepath.Join(t.TempDir(), "trace")
	copyFolder(t, whole, dir)
	line := append(powercut.Command(trace, ""), os.Args[0], "-test.run=^TestPowerCutDuringTheMove$")
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), powerCutEnv+"="+what+":"+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("NO STRACE: no power cut during a move of the log: %v: %s", err, out)
	}
	t.Parallel() // only now: a process that is being started holds the locks of the folders that are open
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	check := checkerOf(t, what, whole)
	lines := strings.SplitAfter(string(data), "\n")
	hexDir := ""
	for _, b := range []byte(dir) {
		hexDir += fmt.Sprintf(`\x%02x`, b)
	}
	var points []int
	for i, line := range lines {
		if changingCall.MatchString(line) && (strings.Contains(line, hexDir) || strings.Contains(line, dir)) {
			points = append(points, i)
		}
	}
	if len(points) < 20 {
		t.Fatalf("only %d of %d system calls change the folder", len(points), len(lines))
	}
	step := 1
	if testing.Short() || underRace {
		step = 23
	}
	rng := rand.New(rand.NewPCG(3, 9))
	cuts := 0
	for p := 0; p < len(points); p += step {
		at := points[p]
		text := strings.TrimSuffix(lines[at], "\n")
		ends := []string{text}
		if syncCall.MatchString(text) {
			ends = append(ends, strings.TrimSuffix(text, "= 0")+"= -1 EIO (Input/output error)")
		}
		for _, end := range ends {
			for name, keep := range map[string]func() bool{
				"nothing": func() bool { return false }, "all": func() bool { return true },
				"a part": func() bool { return rng.IntN(2) == 0 },
			} {
				copyFolder(t, whole, dir)
				disk, err := powercut.Load(dir)
				if err == nil {
					err = disk.Replay(strings.NewReader(strings.Join(lines[:at], "") + end + "\n"))
				}
				left := memDir(t)
				if err == nil {
					err = disk.Write(left, keep)
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := check(left); err != nil {
					t.Errorf("cut after %.150s, left of the rest: %s: %v", end, name, err)
				}
				cuts++
				removeAll(t, filepath.Dir(left))
			}
		}
	}
	t.Logf("%d power cuts at %d system calls", cuts, len(points))
}

// checkerOf returns a check of a folder after a power cut.
func checkerOf(t *testing.T, what, whole string) func(dir string) error {
	t.Helper()
	copied := memDir(t)
	copyFolder(t, whole, copied)
	keys := keysOf(t, what)
	want, err := readFolder(copied, keys)
	if err != nil {
		t.Fatal(err)
	}
	return func(dir string) error {
		got, err := readFolder(dir, keys)
		if err != nil || !strings.HasPrefix(what, "install") {
			if err == nil && got != want {
				err = fmt.Errorf("%s", difference(got, want))
			}
			return err
		}
		kept := 31
		if what == "install over" { // the leader has other entries
			kept = 0
		}
		for index := followerIndex + 1; index <= kept; index++ {
			if !strings.Contains(got, fmt.Sprintf("\n%d %d ", index, followerTerm-1)) {
				return fmt.Errorf("entry %d is lost", index)
			}
		}
		return nil
	}
}
