package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReproducibleBuild builds the program in two folders, the second time without the build cache of the first, and
// compares the bytes. docs/releases.md names the command.
func TestReproducibleBuild(t *testing.T) {
	needsTime(t, "compiles everything, the standard library included")
	var programs [2][]byte
	for i, name := range []string{"first", "another/second"} {
		folder := filepath.Join(t.TempDir(), name)
		copySources(t, "..", folder)
		build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "nomsgpack", "-buildvcs=false",
			"-o", "chainstore", "./cmd/chainstore")
		build.Dir = folder
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
		if i > 0 {
			build.Env = append(build.Env, "GOCACHE="+t.TempDir())
		}
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		program, err := os.ReadFile(filepath.Join(folder, "chainstore"))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(program, []byte(folder)) {
			t.Errorf("the program contains the path of its folder, %s", folder)
		}
		programs[i] = program
	}
	if !bytes.Equal(programs[0], programs[1]) {
		t.Errorf("two builds of the same files differ: %d and %d bytes", len(programs[0]), len(programs[1]))
	}
}

// copySources copies the files of the program's module from one folder to another.
func copySources(t *testing.T, from, to string) {
	t.Helper()
	tracked := exec.CommandContext(t.Context(), "git", "ls-files", "-z")
	tracked.Dir = from
	list, err := tracked.Output()
	if err != nil {
		t.Skipf("git does not list the files: %v", err)
	}
	for name := range strings.SplitSeq(strings.Trim(string(list), "\x00"), "\x00") {
		if name == "" || strings.HasPrefix(name, "bench/") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(from, name))
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
