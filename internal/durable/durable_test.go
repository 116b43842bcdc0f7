package durable_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
)

// onlyFile checks that the folder contains a single file, with the given name, content and mode, and no temporary file.
func onlyFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("the folder contains %v", entries)
	}
	data, err := os.ReadFile(path)
	if err != nil || string(data) != content {
		t.Errorf("%q, %v, want %q", data, err, content)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != mode {
		t.Errorf("mode %v, %v, want %v", info.Mode(), err, mode)
	}
}

func TestWriteFile(t *testing.T) {
	// The mode does not depend on the umask.
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "file")
	for _, c := range []struct {
		content string
		mode    os.FileMode
	}{
		{"first", 0o600},
		{"second, longer", 0o644},
		{"", 0o600},
	} {
		if err := durable.WriteFile(path, []byte(c.content), c.mode); err != nil {
			t.Fatal(err)
		}
		onlyFile(t, path, c.content, c.mode)
	}
}

func TestWriteFileReplacesALinkNotItsTarget(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "file")
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	onlyFile(t, path, "new", 0o600)
	if data, err := os.ReadFile(target); err != nil || string(data) != "kept" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := durable.Create(path, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	onlyFile(t, path, "first", 0o600)
	if err := durable.Create(path, []byte("second"), 0o600); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second one: %v", err)
	}
	onlyFile(t, path, "first", 0o600)
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(nowhere, link); err != nil {
		t.Fatal(err)
	}
	if err := durable.Create(link, []byte("through a link"), 0o600); !errors.Is(err, os.ErrExist) {
		t.Errorf("through a link: %v", err)
	}
	if _, err := os.Lstat(nowhere); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link was followed: %v", err)
	}
}

// TestWriteFileIsSeenWhole checks that a reader sees the old content or the new one, and never a part.
func TestWriteFileIsSeenWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	content := func(n int) []byte { return bytes.Repeat([]byte{byte('a' + n%26)}, 50_000) }
	if err := durable.WriteFile(path, content(0), 0o600); err != nil {
		t.Fatal(err)
	}
	var reader sync.WaitGroup
	stop := make(chan struct{})
	reader.Go(func() {
		for {
			data, err := os.ReadFile(path)
			if err != nil || len(data) != 50_000 || !bytes.Equal(data, content(int(data[0]-'a'))) {
				t.Errorf("%d bytes, %v", len(data), err)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for n := range 15 {
		if err := durable.WriteFile(path, content(n), 0o600); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	reader.Wait()
}

func TestWriteFileInAMissingFolder(t *testing.T) {
	err := durable.WriteFile(filepath.Join(t.TempDir(), "missing", "file"), []byte("x"), 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestWriteFileOntoAFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.MkdirAll(filepath.Join(path, "inside"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(path, []byte("x"), 0o600); err == nil {
		t.Error("a folder was replaced by a file")
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 || !entries[0].IsDir() {
		t.Errorf("the folder contains %v, %v", entries, err)
	}
}

func TestWriteFileInAReadOnlyFolder(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root writes everywhere")
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := durable.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(path), 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Dir(path), 0o700) })
	if err := durable.WriteFile(path, []byte("new"), 0o600); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
	onlyFile(t, path, "old", 0o600)
}

// TestWriteFileThatFailsHalfway checks a write that fails halfway. The limit on file sizes simulates a full disk.
func TestWriteFileThatFailsHalfway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := durable.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	// The limit applies to the process: the test framework's own log must stay below it.
	const most = 1 << 20
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: most, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	err := durable.WriteFile(path, make([]byte, 2*most), 0o600)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, syscall.EFBIG) {
		t.Errorf("got %v", err)
	}
	onlyFile(t, path, "old", 0o600)
}

func TestMkdirAll(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "a", "b", "c")
	for range 2 { // the second time there is nothing to do
		if err := durable.MkdirAll(deep); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"a", "a/b", "a/b/c"} {
			info, err := os.Stat(filepath.Join(root, dir))
			if err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
				t.Errorf("%s: %v, %v", dir, info, err)
			}
		}
	}
	if err := durable.MkdirAll(deep + string(filepath.Separator)); err != nil {
		t.Error(err)
	}
	t.Chdir(root)
	if err := durable.MkdirAll(filepath.Join("a", "relative")); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile("file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.MkdirAll("file"); err == nil || !strings.Contains(err.Error(),
		"file is a file, a folder is needed there") {
		t.Errorf("got %v", err)
	}
	if err := durable.MkdirAll(filepath.Join("file", "below")); err == nil {
		t.Error("a folder below a file")
	}
}

func TestSyncDir(t *testing.T) {
	if err := durable.SyncDir(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := durable.SyncDir(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestLockDir(t *testing.T) {
	dir := t.TempDir()
	locked := func(want bool) {
		t.Helper()
		if got, err := durable.Locked(dir); err != nil || got != want {
			t.Errorf("locked %v, %v, want %v", got, err, want)
		}
	}
	locked(false) // there is no lock file, and the function does not create one
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
	for range 3 { // it can be locked again after a release
		lock, err := durable.LockDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			second, err := durable.LockDir(dir)
			if !errors.Is(err, durable.ErrLocked) || second != nil || !strings.Contains(err.Error(), dir) {
				t.Errorf("locked twice: %v", err)
			}
		}
		locked(true)
		// The folder stays locked when LOCK is removed.
		if err := os.Remove(filepath.Join(dir, "LOCK")); err != nil {
			t.Fatal(err)
		}
		if _, err := durable.LockDir(dir); !errors.Is(err, durable.ErrLocked) {
			t.Errorf("locked twice, after LOCK was removed: %v", err)
		}
		locked(true)
		if err := lock.Close(); err != nil {
			t.Error(err)
		}
		locked(false)
	}
	if _, err := durable.LockDir(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestLockDirFollowsNoSymbolicLink checks that LockDir refuses a symbolic link in place of LOCK.
func TestLockDirFollowsNoSymbolicLink(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "file")
	if err := os.Symlink(outside, filepath.Join(dir, "LOCK")); err != nil {
		t.Fatal(err)
	}
	if _, err := durable.LockDir(dir); !errors.Is(err, durable.ErrNotFile) {
		t.Errorf("%v, want %v", err, durable.ErrNotFile)
	}
	if _, err := os.Lstat(outside); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was created outside of the folder: %v", err)
	}
	if locked, err := durable.Locked(dir); locked || err != nil {
		t.Errorf("the folder stays locked: %v, %v", locked, err)
	}
}

// TestWrite checks that a file that is written in pieces is replaced completely or not at all.
func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	pieces := func(n int, end error) func(io.Writer) error {
		return func(w io.Writer) error {
			for i := range n {
				if _, err := w.Write([]byte{byte('a' + i)}); err != nil {
					return err
				}
			}
			return end
		}
	}
	if err := durable.Write(path, 0o640, pieces(3, nil)); err != nil {
		t.Fatal(err)
	}
	onlyFile(t, path, "abc", 0o640)
	broken := errors.New("the source")
	if err := durable.Write(path, 0o600, pieces(2, broken)); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	onlyFile(t, path, "abc", 0o640)
}

// TestKilledWrite kills a process within a write. RemoveUnfinished removes what it left, and nothing else.
func TestKilledWrite(t *testing.T) {
	const env = "CHAINSTORE_TEST_KILLED_WRITE"
	if path := os.Getenv(env); path != "" {
		_ = durable.Write(path, 0o600, func(w io.Writer) error {
			_, _ = w.Write([]byte("half"))
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		})
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "file.dat")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWrite$")
	cmd.Env = append(os.Environ(), env+"="+path)
	if err := cmd.Run(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process was not killed: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".file.dat.tmp-*")); len(left) != 1 {
		t.Fatalf("left: %v", left)
	}
	others := []string{"file.dat", ".x.tmp-", ".x.tmp-1a", "x.tmp-1", ".tmp-1", ".x.tmp-1.bak"}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	others = append(others, ".folder.tmp-1", ".link.tmp-1")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, ".folder.tmp-1"), 0o700),
		os.Symlink(path, filepath.Join(dir, ".link.tmp-1"))); err != nil {
		t.Fatal(err)
	}
	if err := durable.RemoveUnfinished(dir, filepath.Join(dir, "missing")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(others) {
		t.Errorf("%v, %v", entries, err)
	}
	for _, name := range others {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}
